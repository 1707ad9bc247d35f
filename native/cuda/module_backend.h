// The CUDA backend as the core sees it: the module's functions behind the classes of core/backend.h.
#pragma once
#include <memory>

#include "abi.h"

namespace poc::cuda {

// Throws BACKEND_UNAVAILABLE, OUT_OF_MEMORY or BACKEND_FAILED; so do the backend's own calls.
std::unique_ptr<Backend> make_backend(const Api& api, int device);

}  // namespace poc::cuda
