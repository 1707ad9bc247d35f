// How far a device allocation goes on behind an address.
#pragma once
#include <cstddef>

namespace poc::cuda {

// 0 where `data` is not memory of the current device.
size_t allocation_bytes_behind(const void* data);

}  // namespace poc::cuda
