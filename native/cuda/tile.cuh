// The register tile that matmul and attention are made of, the GPU's twin of native/cpu/tile.h.
#pragma once
#include "block.cuh"

namespace poc::cuda {

static __device__ __forceinline__ void load4(float (&out)[4], const float* p) {
  const float4 v = *reinterpret_cast<const float4*>(p);
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}

// A warp's 32 x (32 * GROUPS) part of a product: each thread has 8 rows and GROUPS times 4 columns, so that the
// eight lanes that are served together read one value of `a` and 128 bytes in a row of `b`.
struct WarpTile {
  int row, column;  // of this thread: rows row .. row + 7, columns column + 32 * group .. + 3
  __device__ __forceinline__ explicit WarpTile(int lane) : row(lane / 8 * 8), column(lane % 8 * 4) {}
};

// acc[i][4 * group + j] goes on with its chain over ascending k: acc = fma(a[i][k], b[k][32 * group + j], acc).
//   a_smem row-major, `a_stride` floats between rows;  b_smem one row a k, `b_stride` floats apart.
// Both begin at a multiple of 16 bytes, and the strides are multiples of 4.
template <int GROUPS>
static __device__ __forceinline__ void fma_tile(float (&acc)[8][4 * GROUPS], const float* a_smem, int a_stride,
                                                const float* b_smem, int b_stride, int num_k) {
  int k = 0;
  for (; k + 4 <= num_k; k += 4) {
    float a[8][4];
#pragma unroll
    for (int i = 0; i < 8; ++i) load4(a[i], a_smem + i * a_stride + k);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int group = 0; group < GROUPS; ++group) {
        float b[4];
        load4(b, b_smem + (k + step) * b_stride + 32 * group);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) acc[i][4 * group + j] = fmaf(a[i][step], b[j], acc[i][4 * group + j]);
      }
    }
  }
  const float* row = b_smem + k * b_stride;
  for (; k < num_k; ++k, row += b_stride) {
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
      float b[4];
      load4(b, row + 32 * group);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[i][4 * group + j] = fmaf(a_smem[i * a_stride + k], b[j], acc[i][4 * group + j]);
    }
  }
}

}  // namespace poc::cuda
