// Included by simd.h: its vector in plain C++: for any processor, and what the other sets are held to.
#pragma once

namespace poc::cpu::POC_SIMD {

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

}  // namespace poc::cpu::POC_SIMD
