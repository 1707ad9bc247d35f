// Per-environment state of the addon.
#pragma once
#include <string>

#include "executor.h"

namespace poc::binding {

Executor& executor(Napi::Env env);

// Where the CUDA module is; empty: beside the addon.
const std::string& cuda_module_path(Napi::Env env);

}  // namespace poc::binding
