// The CUDA C++ surface for g++: keywords, vector types, built-in variables, barriers, warp intrinsics.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "barrier.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__  // the standard library says __attribute__((__noinline__)): only nothing fits there too
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::poc::emulator::running_thread->index)
#define blockIdx (::poc::emulator::running_block->index)
#define blockDim (::poc::emulator::running_block->shape)
#define gridDim (::poc::emulator::running_block->grid_shape)

using dim3 = poc::emulator::Dim3;
using uint3 = poc::emulator::Dim3;

struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline constexpr int warpSize = 32;

using std::max;
using std::min;

// Every collective takes the place of its call, for messages and to notice threads at different places.
#define POC_WHERE const ::poc::emulator::Location& where = ::poc::emulator::Location::current()

inline void __syncthreads(POC_WHERE) { poc::emulator::block_barrier("__syncthreads", false, where); }
inline int __syncthreads_or(int predicate, POC_WHERE) {
  return poc::emulator::block_barrier("__syncthreads_or", predicate != 0, where);
}
inline void __syncwarp(uint32_t mask = 0xffffffffu, POC_WHERE) { poc::emulator::sync_warp(mask, where); }

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, POC_WHERE) {
  const poc::emulator::Segment segment(width, where);
  const int lane = segment.first + (source & (width - 1));
  return poc::emulator::shuffle(mask, value, "__shfl_sync", static_cast<uint32_t>(lane), where);
}

// Lanes of earlier segments can be read, those of later ones cannot.
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int width = 32, POC_WHERE) {
  const poc::emulator::Segment segment(width, where);
  const int lane = segment.lane ^ lane_mask;
  const uint32_t source = lane < segment.end ? static_cast<uint32_t>(lane) : poc::emulator::kOwnLane;
  return poc::emulator::shuffle(mask, value, "__shfl_xor_sync", source, where);
}

template <class T>
T __shfl_down_sync(uint32_t mask, T value, uint32_t delta, int width = 32, POC_WHERE) {
  const poc::emulator::Segment segment(width, where);
  const int64_t lane = int64_t{segment.lane} + delta;
  const uint32_t source = lane < segment.end ? static_cast<uint32_t>(lane) : poc::emulator::kOwnLane;
  return poc::emulator::shuffle(mask, value, "__shfl_down_sync", source, where);
}

template <class T>
T __shfl_up_sync(uint32_t mask, T value, uint32_t delta, int width = 32, POC_WHERE) {
  const poc::emulator::Segment segment(width, where);
  const int64_t lane = int64_t{segment.lane} - delta;
  const uint32_t source = lane >= segment.first ? static_cast<uint32_t>(lane) : poc::emulator::kOwnLane;
  return poc::emulator::shuffle(mask, value, "__shfl_up_sync", source, where);
}

inline uint32_t __ballot_sync(uint32_t mask, int predicate, POC_WHERE) {
  return poc::emulator::vote(mask, "__ballot_sync", predicate != 0, where);
}
inline int __any_sync(uint32_t mask, int predicate, POC_WHERE) {
  return poc::emulator::vote(mask, "__any_sync", predicate != 0, where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, POC_WHERE) {
  return poc::emulator::vote(mask, "__all_sync", predicate == 0, where) == 0;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}

inline float __uint_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Rounded once each: the translation units are compiled with -ffp-contract=off.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
