// A vector of 16 fp32 lanes for the instruction set that this file is compiled for. Every op is written
// once over `Vec` and compiled once per set; lanes never mix, so that all sets give the same bits.
#pragma once
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../core/dtype.h"
#include "../core/elementary.h"

#ifndef POC_SIMD
#error "POC_SIMD names the instruction set's namespace; CMakeLists.txt sets it"
#endif

namespace poc::cpu::POC_SIMD {

constexpr int kLanes = 16;

// Stored types as template arguments, with the C type that holds one value.
struct F32 {
  using Value = float;
};
struct F16 {
  using Value = uint16_t;
};
struct BF16 {
  using Value = uint16_t;
};

#if defined(__AVX512F__)

constexpr int kTileRows = 12, kTileVecs = 2;  // 24 accumulators of 32 registers

struct Vec {
  __m512 v;
  Vec() = default;
  Vec(__m512 x) : v(x) {}
  explicit Vec(float x) : v(_mm512_set1_ps(x)) {}
};
static inline Vec load(const float* p, F32) { return _mm512_loadu_ps(p); }
static inline Vec load(const uint16_t* p, F16) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline Vec load(const uint16_t* p, BF16) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x.v); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
static inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a.v, b.v); }
static inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a.v, b.v); }
static inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a.v, b.v); }
static inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a.v, b.v); }
static inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a.v, b.v); }
static inline Vec clamp(Vec x, Vec lo, Vec hi) {  // max and min give their second operand for NaN
  return _mm512_min_ps(hi.v, _mm512_max_ps(lo.v, x.v));
}
static inline Vec scale_by_power(Vec p, Vec t) {
  const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t.v), _mm512_set1_epi32(0x4b400000));
  const __m512i half = _mm512_srai_epi32(n, 1), bias = _mm512_set1_epi32(127);
  const __m512i a = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
  const __m512i b = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, half), bias), 23);
  return _mm512_mul_ps(_mm512_mul_ps(p.v, _mm512_castsi512_ps(a)), _mm512_castsi512_ps(b));
}

#elif defined(__AVX2__)

constexpr int kTileRows = 6, kTileVecs = 1;  // 12 accumulators of 16 registers

struct Vec {
  __m256 lo, hi;
  Vec() = default;
  Vec(__m256 a, __m256 b) : lo(a), hi(b) {}
  explicit Vec(float x) : lo(_mm256_set1_ps(x)), hi(_mm256_set1_ps(x)) {}
};
static inline __m256 widen8(const uint16_t* p, F16) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline __m256 widen8(const uint16_t* p, BF16) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline Vec load(const float* p, F32) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
template <class D>
static inline Vec load(const uint16_t* p, D d) {
  return {widen8(p, d), widen8(p + 8, d)};
}
static inline void store(float* p, Vec x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
static inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline Vec div(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline Vec clamp(Vec x, Vec lo, Vec hi) {  // max and min give their second operand for NaN
  return {_mm256_min_ps(hi.lo, _mm256_max_ps(lo.lo, x.lo)), _mm256_min_ps(hi.hi, _mm256_max_ps(lo.hi, x.hi))};
}
static inline __m256 scale_by_power8(__m256 p, __m256 t) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
  const __m256i half = _mm256_srai_epi32(n, 1), bias = _mm256_set1_epi32(127);
  const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}
static inline Vec scale_by_power(Vec p, Vec t) { return {scale_by_power8(p.lo, t.lo), scale_by_power8(p.hi, t.hi)}; }

#else

constexpr int kTileRows = 4, kTileVecs = 1;

struct Vec {
  float v[kLanes];
  Vec() = default;
  explicit Vec(float x) {
    for (float& lane : v) lane = x;
  }
};
template <class F>
static inline Vec lanes(F f) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
  return out;
}
static inline Vec load(const float* p, F32) {
  return lanes([&](int i) { return p[i]; });
}
static inline Vec load(const uint16_t* p, F16) {
  return lanes([&](int i) { return widen_f16(p[i]); });
}
static inline Vec load(const uint16_t* p, BF16) {
  return lanes([&](int i) { return widen_bf16(p[i]); });
}
static inline void store(float* p, Vec x) {
  for (int i = 0; i < kLanes; ++i) p[i] = x.v[i];
}
static inline Vec fma(Vec a, Vec b, Vec c) {
  return lanes([&](int i) { return poc::fma(a.v[i], b.v[i], c.v[i]); });
}
static inline Vec add(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
static inline Vec sub(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
static inline Vec mul(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
static inline Vec div(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
static inline Vec max(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
static inline Vec clamp(Vec x, Vec lo, Vec hi) {
  return lanes([&](int i) { return poc::clamp(x.v[i], lo.v[i], hi.v[i]); });
}
static inline Vec scale_by_power(Vec p, Vec t) {
  return lanes([&](int i) { return poc::scale_by_power(p.v[i], t.v[i]); });
}

#endif

static inline Vec load(const float* p) { return load(p, F32()); }

}  // namespace poc::cpu::POC_SIMD
