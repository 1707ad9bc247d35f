// Included by simd.h: its vector in two registers of AVX2, with FMA and F16C.
#pragma once
#include <immintrin.h>

namespace poc::cpu::POC_SIMD {

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

}  // namespace poc::cpu::POC_SIMD
