// Included by simd.h: its vector in one register of AVX-512.
#pragma once
#include <immintrin.h>

namespace poc::cpu::POC_SIMD {

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
// One instruction that rounds once, as the two steps of poc::scale_by_power do.
static inline Vec scale_by_power(Vec p, Vec t) {
  return _mm512_scalef_ps(p.v, _mm512_sub_ps(t.v, _mm512_set1_ps(kRound32)));
}

}  // namespace poc::cpu::POC_SIMD
