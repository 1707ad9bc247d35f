// RMSNorm, 32 strided chains and a halving tree; see docs/NUMERICS.md, section 5.
#include "ops.h"
#include "simd.h"

namespace poc::cpu::POC_SIMD {

float inverse_rms(const float* x, size_t size, float eps) {
  Vec low(0.0f), high(0.0f);
  size_t i = 0;
  for (; i + 32 <= size; i += 32) {
    const Vec a = load(x + i), b = load(x + i + 16);
    low = fma(a, a, low);
    high = fma(b, b, high);
  }
  float sums[32];
  store(sums, low);
  store(sums + 16, high);
  for (size_t j = 0; i < size; ++i, ++j) sums[j] = poc::fma(x[i], x[i], sums[j]);
  for (int width = 16; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) sums[j] = sums[j] + sums[j + width];
  return 1.0f / __builtin_sqrtf(sums[0] / static_cast<float>(size) + eps);
}

void rmsnorm(Rows x, const float* weight, float eps, Rows out) {
  for (size_t row = 0; row < x.rows; ++row) {
    const float* in = x.data + row * x.stride;
    float* y = out.data + row * out.stride;
    const float scale = inverse_rms(in, x.cols, eps);
    for (size_t i = 0; i < x.cols; ++i) y[i] = (in[i] * scale) * weight[i];
  }
}

}  // namespace poc::cpu::POC_SIMD
