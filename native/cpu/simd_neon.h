// Included by simd.h: its vector in four registers of NEON, which every 64-bit ARM has.
#pragma once
#include <arm_neon.h>

namespace poc::cpu::POC_SIMD {

constexpr int kTileRows = 6, kTileVecs = 1;  // 24 accumulators of 32 registers

struct Vec {
  float32x4_t a, b, c, d;
  Vec() = default;
  Vec(float32x4_t p, float32x4_t q, float32x4_t r, float32x4_t s) : a(p), b(q), c(r), d(s) {}
  explicit Vec(float x) : a(vdupq_n_f32(x)), b(a), c(a), d(a) {}
};
// f for each four lanes.
template <class F, class... V>
static inline Vec quarters(F f, V... x) {
  return {f(x.a...), f(x.b...), f(x.c...), f(x.d...)};
}
struct Pair {
  float32x4_t low, high;
};
static inline Pair widen8(const uint16_t* p, F16) {
  const float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
  return {vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}
static inline Pair widen8(const uint16_t* p, BF16) {  // a zero below each value, as the lower half
  const uint16x8_t h = vld1q_u16(p), zero = vdupq_n_u16(0);
  return {vreinterpretq_f32_u16(vzip1q_u16(zero, h)), vreinterpretq_f32_u16(vzip2q_u16(zero, h))};
}
static inline Vec load(const float* p, F32) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
template <class D>
static inline Vec load(const uint16_t* p, D d) {
  const Pair x = widen8(p, d), y = widen8(p + 8, d);
  return {x.low, x.high, y.low, y.high};
}
static inline void store(float* p, Vec x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
static inline Vec fma(Vec a, Vec b, Vec c) {
  return quarters([](auto x, auto y, auto z) { return vfmaq_f32(z, x, y); }, a, b, c);
}
static inline Vec add(Vec a, Vec b) {
  return quarters([](auto x, auto y) { return vaddq_f32(x, y); }, a, b);
}
static inline Vec sub(Vec a, Vec b) {
  return quarters([](auto x, auto y) { return vsubq_f32(x, y); }, a, b);
}
static inline Vec mul(Vec a, Vec b) {
  return quarters([](auto x, auto y) { return vmulq_f32(x, y); }, a, b);
}
static inline Vec div(Vec a, Vec b) {
  return quarters([](auto x, auto y) { return vdivq_f32(x, y); }, a, b);
}
static inline Vec max(Vec a, Vec b) {  // b for NaN and for equal zeros, unlike vmaxq
  return quarters([](auto x, auto y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }, a, b);
}
static inline Vec clamp(Vec x, Vec lo, Vec hi) {  // NaN passes through both
  return quarters([](auto y, auto low, auto high) { return vminq_f32(vmaxq_f32(y, low), high); }, x, lo, hi);
}
static inline float32x4_t scale_by_power4(float32x4_t p, float32x4_t t) {
  const int32x4_t n = vsubq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(0x4b400000));
  const int32x4_t half = vshrq_n_s32(n, 1), bias = vdupq_n_s32(127);
  const int32x4_t a = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t b = vshlq_n_s32(vaddq_s32(vsubq_s32(n, half), bias), 23);
  return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(a)), vreinterpretq_f32_s32(b));
}
static inline Vec scale_by_power(Vec p, Vec t) { return quarters(scale_by_power4, p, t); }

}  // namespace poc::cpu::POC_SIMD
