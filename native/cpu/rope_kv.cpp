// Bias, q/k-norm, RoPE (half pairing) and the KV write; see docs/NUMERICS.md, section 6.
#include "ops.h"
#include "simd.h"

namespace poc::cpu::POC_SIMD {
namespace {

void add_bias(float* x, const float* bias, size_t size) {
  if (bias)
    for (size_t i = 0; i < size; ++i) x[i] = x[i] + bias[i];
}

// Norm (if any) and rotation of each head of one row.
void rotate(float* x, size_t num_heads, size_t head_dim, const float* norm, float eps, const float* cosines,
            const float* sines) {
  const size_t half = head_dim / 2;
  for (size_t head = 0; head < num_heads; ++head, x += head_dim) {
    if (norm) {
      const float scale = inverse_rms(x, head_dim, eps);
      for (size_t i = 0; i < head_dim; ++i) x[i] = (x[i] * scale) * norm[i];
    }
    for (size_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[i + half];
      x[i] = poc::fma(a, cosines[i], -(b * sines[i]));
      x[i + half] = poc::fma(b, cosines[i], a * sines[i]);
    }
  }
}

void write(void* data, const KvLayout& layout, const KvView& cache, size_t slot, const float* x) {
  for (size_t head = 0; head < cache.num_kv_heads; ++head) {
    const size_t base = kv_index(layout, slot, head, 0);
    for (size_t d = 0; d < cache.head_dim; ++d)
      store_float(data, cache.dtype, base + d * layout.dim_stride, x[head * cache.head_dim + d]);
  }
}

}  // namespace

void rope_kv(const RopeKvArgs& args, size_t first_row, size_t rows) {
  const size_t head_dim = args.cache.head_dim, half = head_dim / 2, kv_heads = args.cache.num_kv_heads;
  for (size_t row = first_row; row < first_row + rows; ++row) {
    const float *cosines = args.cosines + row * half, *sines = args.sines + row * half;
    if (args.q.data) {
      float* q = args.q.data + row * args.q.stride;
      add_bias(q, args.q_bias, args.q.cols);
      rotate(q, args.q.cols / head_dim, head_dim, args.q_norm, args.eps, cosines, sines);
    }
    if (args.k.data) {
      float *k = args.k.data + row * args.k.stride, *v = args.v.data + row * args.v.stride;
      add_bias(k, args.k_bias, args.k.cols);
      add_bias(v, args.v_bias, args.v.cols);
      rotate(k, kv_heads, head_dim, args.k_norm, args.eps, cosines, sines);
      if (args.cache.k) {
        write(args.cache.k, args.cache.k_layout, args.cache, args.slots[row], k);
        write(args.cache.v, args.cache.v_layout, args.cache, args.slots[row], v);
      }
      if (args.samples && args.samples[row] >= 0) {
        const size_t first = static_cast<size_t>(args.samples[row]) * args.k.cols;
        for (size_t i = 0; i < args.k.cols; ++i) store_float(args.sampled_k, args.cache.dtype, first + i, k[i]);
        for (size_t i = 0; i < args.v.cols; ++i) store_float(args.sampled_v, args.cache.dtype, first + i, v[i]);
      }
    }
  }
}

}  // namespace poc::cpu::POC_SIMD
