// POC_LAUNCH: the checks that the real runtime makes at a launch, and the launch itself as work of a stream.
#pragma once
#include <type_traits>

#include "device_calls.h"
#include "grid.h"
#include "stream.h"

namespace poc::emulator {

inline cudaError_t check_launch(Dim3 grid, Dim3 block, size_t smem_bytes, const void* kernel) {
  const bool empty = grid.count() == 0 || block.count() == 0;
  const bool large_grid = grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535;
  const bool large_block = block.x > 1024 || block.y > 1024 || block.z > 64 || block.count() > 1024;
  if (empty || large_grid || large_block) return cudaErrorInvalidConfiguration;
  const auto allowed = device().dynamic_smem.find(kernel);
  const int limit = allowed == device().dynamic_smem.end() ? kDefaultSmem : allowed->second;
  if (smem_bytes > options().max_smem || smem_bytes > static_cast<size_t>(limit)) return cudaErrorInvalidValue;
  return cudaSuccess;
}

// `arguments` is one struct; it is copied here, and every thread gets a copy of its own.
template <class Arguments>
void launch(void (*kernel)(Arguments), Dim3 grid, Dim3 block, size_t smem_bytes, cudaStream_t stream,
            const std::type_identity_t<Arguments>& arguments) {
  const Lock lock(device().mutex);
  const cudaError_t error = check_launch(grid, block, smem_bytes, kernel_key(kernel));
  if (error != cudaSuccess) {
    answer(error);
    return;
  }
  answer(enqueue_work(stream, [=] {
    if (reached(options().fail_launch_after)) throw LaunchError("injected launch failure");
    run_grid(grid, block, smem_bytes, [&] { kernel(arguments); });
  }));
}

}  // namespace poc::emulator

// Errors are told by cudaGetLastError. A kernel with commas in its name goes in parentheses.
#define POC_LAUNCH(kernel, grid, block, smem_bytes, stream, arguments) \
  ::poc::emulator::launch(kernel, grid, block, smem_bytes, stream, arguments)
