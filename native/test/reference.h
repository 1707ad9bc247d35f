// Every op a second time, from the words of the numerics contract: scalar, in the order they say, with
// nothing of the library but exp32 and the conversions (which elementary_test holds to independent
// formulas). Slow and short on purpose.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../core/dtype.h"
#include "../core/elementary.h"
#include "../core/rope.h"

namespace poc::reference {

// (rows, cols), no padding.
struct Array {
  size_t rows = 0, cols = 0;
  std::vector<float> data;
  Array() = default;
  Array(size_t r, size_t c) : rows(r), cols(c), data(r * c) {}
  Array(size_t r, size_t c, std::vector<float> values) : rows(r), cols(c), data(std::move(values)) {}
  float* row(size_t i) { return data.data() + i * cols; }
  const float* row(size_t i) const { return data.data() + i * cols; }
  float& at(size_t i, size_t j) { return data[i * cols + j]; }
  float at(size_t i, size_t j) const { return data[i * cols + j]; }
};

// One chain of fused multiply-adds from +0.
inline float dot(const float* a, const float* b, size_t count) {
  float acc = 0;
  for (size_t k = 0; k < count; ++k) acc = std::fmaf(a[k], b[k], acc);
  return acc;
}

// x (rows, num_inputs), w (num_outputs, num_inputs)
inline Array matmul(const Array& x, const Array& w) {
  Array out(x.rows, w.rows);
  for (size_t i = 0; i < x.rows; ++i)
    for (size_t j = 0; j < w.rows; ++j) out.at(i, j) = dot(x.row(i), w.row(j), x.cols);
  return out;
}

// Sum of squares as 32 chains, chain j over elements j, j + 32, ..; then sums j and j + width, width 16 .. 1.
inline float inverse_rms(const float* x, size_t size, float eps) {
  float sums[32] = {};
  for (size_t i = 0; i < size; ++i) sums[i % 32] = std::fmaf(x[i], x[i], sums[i % 32]);
  for (size_t width : {16, 8, 4, 2, 1})
    for (size_t j = 0; j < width; ++j) sums[j] += sums[j + width];
  const float mean = sums[0] / static_cast<float>(size);
  return 1.0f / std::sqrt(mean + eps);
}

inline void rmsnorm_row(float* x, size_t size, const float* weight, float eps) {
  const float scale = inverse_rms(x, size, eps);
  for (size_t i = 0; i < size; ++i) x[i] = (x[i] * scale) * weight[i];
}

inline Array rmsnorm(Array x, const float* weight, float eps) {
  for (size_t i = 0; i < x.rows; ++i) rmsnorm_row(x.row(i), x.cols, weight, eps);
  return x;
}

// Cosines, then sines of all positions: 2 x (num_positions, half).
inline std::vector<float> rope_table(const std::vector<float>& frequencies, const uint32_t* positions, size_t count) {
  std::vector<float> table(2 * count * frequencies.size());
  poc::rope_table(frequencies.data(), frequencies.size(), positions, count, table.data(),
                  table.data() + table.size() / 2);
  return table;
}

// Bias, norm of each head, rotation by the row's angles. cosines, sines: (head_dim / 2).
inline void rotate_row(float* x, size_t num_heads, size_t head_dim, const float* bias, const float* norm, float eps,
                       const float* cosines, const float* sines) {
  const size_t half = head_dim / 2;
  if (bias)
    for (size_t i = 0; i < num_heads * head_dim; ++i) x[i] += bias[i];
  for (size_t head = 0; head < num_heads; ++head, x += head_dim) {
    if (norm) rmsnorm_row(x, head_dim, norm, eps);
    for (size_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[i + half];
      const float bs = b * sines[i], as = a * sines[i];
      x[i] = std::fmaf(a, cosines[i], -bs);
      x[i + half] = std::fmaf(b, cosines[i], as);
    }
  }
}

// What the cache gives back for x: rounded once to its dtype.
inline float stored(float x, Dtype dtype) {
  if (dtype == Dtype::f32) return canonical_nan(x);
  return dtype == Dtype::bf16 ? widen_bf16(round_bf16(x)) : widen_f16(round_f16(x));
}

// One head of one row. k(key), v(key): pointers to head_dim values; keys [first, last).
template <class K, class V>
void attend(const float* q, K k, V v, size_t first, size_t last, size_t head_dim, float* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  std::vector<float> p;
  for (size_t key = first; key < last; ++key) p.push_back(dot(q, k(key), head_dim) * scale);
  const float top = *std::max_element(p.begin(), p.end());
  float sum = 0;
  std::fill(out, out + head_dim, 0.0f);
  for (size_t key = first; key < last; ++key) {
    const float weight = exp32(p[key - first] - top);
    sum += weight;
    for (size_t d = 0; d < head_dim; ++d) out[d] = std::fmaf(weight, v(key)[d], out[d]);
  }
  for (size_t d = 0; d < head_dim; ++d) out[d] /= sum;
}

inline size_t first_key(size_t position, size_t window) {
  return window > 0 && position >= window ? position - window + 1 : 0;
}

// q (rows, num_heads * head_dim) at positions first_position ..; k, v (keys, num_kv_heads * head_dim)
inline Array attention(const Array& q, const Array& k, const Array& v, size_t head_dim, size_t first_position,
                       size_t window) {
  Array out(q.rows, q.cols);
  const size_t group = q.cols / k.cols;
  for (size_t row = 0; row < q.rows; ++row) {
    const size_t position = first_position + row;
    for (size_t head = 0; head < q.cols / head_dim; ++head) {
      const size_t column = head / group * head_dim;
      attend(
          q.row(row) + head * head_dim, [&](size_t key) { return k.row(key) + column; },
          [&](size_t key) { return v.row(key) + column; }, first_key(position, window), position + 1, head_dim,
          out.row(row) + head * head_dim);
    }
  }
  return out;
}

inline float swiglu(float gate, float up) {
  const float silu = gate / (1.0f + exp32(0.0f - gate));
  return silu * up;
}

}  // namespace poc::reference
