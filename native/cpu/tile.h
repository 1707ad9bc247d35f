// The register tile that matmul and attention are made of: MR rows by V vectors, one ascending chain of
// fused multiply-adds per output.
#pragma once
#include <cstddef>

#include "simd.h"

namespace poc::cpu::POC_SIMD {

// c(MR, 16 V) = [c +] a b.  a: MR values for each k, contiguous.  b: 16 V values for each k, `b_stride`
// apart.  resume: go on with the chains stored in c, else begin at +0.
template <class D, int MR, int V>
static inline void tile(const float* a, const typename D::Value* b, size_t b_stride, size_t num_k, float* c,
                        size_t c_stride, bool resume) {
  Vec acc[MR][V];
  for (int m = 0; m < MR; ++m)
    for (int j = 0; j < V; ++j) acc[m][j] = resume ? load(c + m * c_stride + j * kLanes) : Vec(0.0f);
  for (size_t k = 0; k < num_k; ++k) {
    Vec w[V];
    for (int j = 0; j < V; ++j) w[j] = load(b + k * b_stride + j * kLanes, D());
    for (int m = 0; m < MR; ++m) {
      const Vec x(a[k * MR + m]);
      for (int j = 0; j < V; ++j) acc[m][j] = fma(x, w[j], acc[m][j]);
    }
  }
  for (int m = 0; m < MR; ++m)
    for (int j = 0; j < V; ++j) store(c + m * c_stride + j * kLanes, acc[m][j]);
}

// As tile, for `rows` <= kTileRows and any number of vectors. a holds `rows` values for each k.
template <class D, int MR = kTileRows>
static inline void tiles(int rows, int vecs, const float* a, const typename D::Value* b, size_t b_stride, size_t num_k,
                         float* c, size_t c_stride, bool resume) {
  if constexpr (MR > 1) {
    if (rows < MR) return tiles<D, MR - 1>(rows, vecs, a, b, b_stride, num_k, c, c_stride, resume);
  }
  constexpr int kVecs = MR <= 2 ? 2 : kTileVecs;  // few rows: more chains side by side
  int j = 0;
  for (; j + kVecs <= vecs; j += kVecs)
    tile<D, MR, kVecs>(a, b + j * kLanes, b_stride, num_k, c + j * kLanes, c_stride, resume);
  for (; j < vecs; ++j) tile<D, MR, 1>(a, b + j * kLanes, b_stride, num_k, c + j * kLanes, c_stride, resume);
}

// Calls f with the type that names `dtype`.
template <class F>
static inline void with_dtype(Dtype dtype, F f) {
  if (dtype == Dtype::f32) return f(F32());
  if (dtype == Dtype::f16) return f(F16());
  return f(BF16());
}

}  // namespace poc::cpu::POC_SIMD
