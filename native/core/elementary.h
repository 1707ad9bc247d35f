// Elementary functions in fixed steps of correctly rounded operations, so that every machine gives the
// same bits (docs/NUMERICS.md, section 3). Series coefficients are 1/n! or 1/n, rounded to nearest.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "dtype.h"

namespace poc {

// --- binary32: exp, one source for floats and for vectors of them ---------------------------------
// V needs fma, mul, sub, clamp and scale_by_power, found by argument-dependent lookup or below.

POC_SHARED float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
POC_SHARED float sub(float a, float b) { return a - b; }
POC_SHARED float clamp(float x, float lo, float hi) { return x < lo ? lo : (x > hi ? hi : x); }

// 1.5 * 2^23: adding it rounds |x| < 2^22 to an integer that stands in the low bits.
constexpr float kRound32 = 0x1.8p23f;

// p * 2^n for t = kRound32 + n, |n| <= 252, in two steps so that a subnormal result rounds once.
POC_SHARED float scale_by_power(float p, float t) {
  const int32_t n = static_cast<int32_t>(float_bits(t) - 0x4b400000u), half = n >> 1;
  const uint32_t first = static_cast<uint32_t>(half + 127) << 23;
  const uint32_t second = static_cast<uint32_t>(n - half + 127) << 23;
  return p * bits_float(first) * bits_float(second);
}

template <class V>
POC_SHARED V exp32(V x) {
  x = clamp(x, V(-104.0f), V(89.0f));  // beyond: 0 and infinity; NaN passes through
  const V t = fma(x, V(0x1.715476p+0f), V(kRound32));
  const V n = sub(t, V(kRound32));
  V r = fma(n, V(-0x1.62e43p-1f), x);  // ln 2 in two parts
  r = fma(n, V(0x1.05c610p-29f), r);
  V p = V(0x1.a01a02p-13f);           // 1/7!
  p = fma(p, r, V(0x1.6c16c2p-10f));  // 1/6!
  p = fma(p, r, V(0x1.111112p-7f));   // 1/5!
  p = fma(p, r, V(0x1.555556p-5f));   // 1/4!
  p = fma(p, r, V(0x1.555556p-3f));   // 1/3!
  p = fma(p, r, V(0.5f));
  p = fma(p, r, V(1.0f));
  p = fma(p, r, V(1.0f));
  return scale_by_power(p, t);
}

// --- binary64: for RoPE tables and for the choice of tokens ---------------------------------------

constexpr double kRound64 = 0x1.8p52;

POC_SHARED uint64_t double_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  return bits;
}

POC_SHARED double bits_double(uint64_t bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

// Natural logarithm of a finite x > 0: x = 2^e * m, m in [sqrt(1/2), sqrt(2)), then 2 artanh(s).
POC_SHARED double log64(double x) {
  int64_t e = 0;
  if (x < 0x1p-1022) x *= 0x1p54, e = -54;
  uint64_t bits = double_bits(x);
  e += static_cast<int64_t>(bits >> 52) - 1023;
  double m = bits_double((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m >= 0x1.6a09e667f3bcdp+0) m *= 0.5, ++e;
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.0 / 21.0;
  for (int n = 19; n >= 3; n -= 2) p = ::fma(p, z, 1.0 / n);
  const double tail = s * z * p;  // artanh(s) = s + tail
  const double de = static_cast<double>(e);
  const double low = ::fma(de, 0x1.ef35793c76730p-45, 2.0 * tail);
  return ::fma(de, 0x1.62e42fefa3800p-1, ::fma(2.0, s, low));
}

// e^x for -700 <= x <= 709.
POC_SHARED double exp64_in_range(double x) {
  const double t = ::fma(x, 0x1.71547652b82fep+0, kRound64), n = t - kRound64;
  double r = ::fma(n, -0x1.62e42fefa3800p-1, x);
  r = ::fma(n, -0x1.ef35793c76730p-45, r);
  double factorial = 87178291200.0;  // 14!
  double p = 1.0 / factorial;
  for (int k = 14; k >= 1; --k) {
    factorial /= k;  // exact
    p = ::fma(p, r, 1.0 / factorial);
  }
  const uint64_t biased = double_bits(t) - double_bits(kRound64) + 1023;
  return p * bits_double(biased << 52);
}

// e^x for x <= 709; below -700 the result is +0.
POC_SHARED double exp64(double x) { return x < -700.0 ? 0.0 : exp64_in_range(x); }

// sin and cos of a finite |x| < 2^30: reduction by pi/2 in three parts, then Taylor to r^17 and r^18.
POC_SHARED void sincos64(double x, double* sine, double* cosine) {
  const double t = ::fma(x, 0x1.45f306dc9c883p-1, kRound64), n = t - kRound64;
  double r = ::fma(n, -0x1.921fb54442d18p+0, x);
  r = ::fma(n, -0x1.1a62633145c07p-54, r);
  r = ::fma(n, 0x1.f1976b7ed8fbcp-110, r);
  const double z = r * r;
  // Horner: sin = r (1 - z/(2*3) (1 - z/(4*5) (...))), cos = 1 - z/(1*2) (1 - z/(3*4) (...))
  double s = 1.0, c = 1.0;
  for (int k = 17; k >= 3; k -= 2) s = ::fma(-(z / (k * (k - 1.0))), s, 1.0);
  for (int k = 18; k >= 2; k -= 2) c = ::fma(-(z / (k * (k - 1.0))), c, 1.0);
  s *= r;
  const uint64_t quadrant = (double_bits(t) - double_bits(kRound64)) & 3;
  const double a = quadrant & 1 ? c : s, b = quadrant & 1 ? s : c;
  *sine = quadrant & 2 ? -a : a;
  *cosine = (quadrant == 1 || quadrant == 2) ? -b : b;
}

// Cosine and sine of one RoPE angle, section 6.
POC_SHARED void rope_angle(float frequency, uint32_t position, float* cosine, float* sine) {
  const float angle = static_cast<float>(position) * frequency;
  double s, c;
  sincos64(static_cast<double>(angle), &s, &c);
  *cosine = static_cast<float>(c);
  *sine = static_cast<float>(s);
}

}  // namespace poc
