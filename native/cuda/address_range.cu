// Only the driver knows where an allocation ends; its functions are asked for by name, so that the module
// loads where no driver is.
#include "address_range.h"

#include <cuda.h>

#include "device.h"

namespace poc::cuda {

size_t allocation_bytes_behind(const void* data) {
  using Find = CUresult (*)(CUdeviceptr*, size_t*, CUdeviceptr);
  cudaPointerAttributes attributes;
  const cudaError_t error = cudaPointerGetAttributes(&attributes, data);
  cudaGetLastError();
  int current = 0;
  cudaGetDevice(&current);
  const bool here = error == cudaSuccess && attributes.type == cudaMemoryTypeDevice && attributes.device == current;
  if (!here) return 0;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function, 12000, cudaEnableDefault, &found) !=
          cudaSuccess ||
      !function)
    return 0;
  CUdeviceptr base = 0;
  size_t bytes = 0;
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  if (reinterpret_cast<Find>(function)(&base, &bytes, address) != CUDA_SUCCESS) return 0;
  return static_cast<size_t>(base + bytes - address);
}

}  // namespace poc::cuda
