// Finds and opens libpoc_cuda.so. Nothing of CUDA is touched before the first call.
#pragma once
#include <string>
#include <vector>

#include "abi.h"

namespace poc::cuda {

struct Module {
  const Api* api = nullptr;  // null: not usable, and `reason` says why
  std::string reason, path;
  std::vector<AbiDevice> devices;
};

// The module at `path`, or, when it is empty, beside this library and only where an NVIDIA driver is.
// Opened once for each path and never closed.
const Module& open_module(const std::string& path = {});

}  // namespace poc::cuda
