// Small parts that kernels share: stored number types, the stop word, division of work.
#pragma once
#include "kernels.h"

namespace poc::cuda {

constexpr int kWarp = 32;

// Stored types as template arguments.
struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(F16 x) { return ptx::widen_f16(x.bits); }
static __device__ __forceinline__ float widen(Bf16 x) { return widen_bf16(x.bits); }

// Eight values that are moved together, 16 bytes at a time.
template <class T>
struct alignas(16) Eight {
  T value[8];
};

// Calls f with a value of the type that names `dtype`.
template <class F>
inline void with_dtype(Dtype dtype, F f) {
  if (dtype == Dtype::f32) return f(float());
  if (dtype == Dtype::f16) return f(F16());
  return f(Bf16());
}

// Whether the run was stopped; the same answer for all threads of the block.
static __device__ __forceinline__ bool stopped(const uint32_t* stop) {
  return __syncthreads_or(ptx::load_volatile(stop) != 0) != 0;
}

}  // namespace poc::cuda
