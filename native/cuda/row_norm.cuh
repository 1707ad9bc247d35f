// A row's inverse root mean square by one warp: lane j is chain j, then the halving tree (docs/NUMERICS.md,
// section 5).
#pragma once
#include "block.cuh"

namespace poc::cuda {

// `x`: `size` values that the whole warp can read.
static __device__ __forceinline__ float inverse_rms(const float* x, uint32_t size, float eps, int lane) {
  float sum = 0.0f;
#pragma unroll 8
  for (uint32_t i = lane; i < size; i += kWarp) sum = fmaf(x[i], x[i], sum);
  // Both partners add the same two numbers, so every lane ends with the tree's root.
  for (int width = 16; width > 0; width /= 2) sum = sum + __shfl_xor_sync(0xffffffffu, sum, width);
  return 1.0f / sqrtf(sum / static_cast<float>(size) + eps);
}

}  // namespace poc::cuda
