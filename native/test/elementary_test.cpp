// Elementary functions against libm in wider arithmetic, conversions against a formula in double, Philox
// against its published vectors.
#include "../core/elementary.h"

#include <cmath>
#include <limits>

#include "../core/choose.h"
#include "../core/float_environment.h"
#include "../cpu/cpu_backend.h"
#include "../cpu/simd_dispatch.h"
#include "check.h"
#include "foreign_environment.h"

using namespace poc;
using namespace poc::test;

namespace {

const double kPi = 3.14159265358979323846;

// The distance from `got` to `exact` in units of the last place that binary32 has at `exact`.
double ulps32(float got, double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

long double ulps64(double got, long double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0L, std::max(exponent - 53, -1074));
}

void exp32_is_within_one_ulp() {
  // Every `step`-th float of either sign up to 89, where the result overflows, or -104.5, where it vanishes.
  const uint32_t step = quick() ? 50021 : 499;
  double worst = 0, sum = 0;
  size_t count = 0, subnormal = 0;
  for (const uint32_t sign : {0u, 0x80000000u}) {
    const uint32_t end = float_bits(sign ? 104.5f : 88.72283f);
    for (uint32_t bits = 0; bits <= end; bits += step) {
      const float x = bits_float(sign | bits), y = exp32(x);
      const double exact = std::exp(static_cast<double>(x)), error = ulps32(y, exact);
      subnormal += exact < 0x1p-126 && y > 0;
      worst = std::max(worst, error);
      sum += error;
      ++count;
      CHECK(error <= 1.0, "exp32(", x, ") = ", y, ", ", error, " ulp");
    }
  }
  CHECK(worst > 0.49 && sum / static_cast<double>(count) < 0.3, "worst ", worst);
  CHECK(subnormal > (quick() ? 10u : 1000u), subnormal);
  printf("  exp32: %zu arguments, worst %.4f ulp, mean %.4f, %zu subnormal results\n", count, worst,
         sum / static_cast<double>(count), subnormal);
}

void exp32_is_monotonic_where_results_are_small() {
  // 2^-126 and below: double rounding would show as a step down.
  float last = 0;
  for (float x = -104.2f; x < -86.0f; x += quick() ? 0x1p-7f : 0x1p-13f) {
    const float y = exp32(x);
    CHECK(y >= last, x);
    last = y;
  }
}

void exp32_of_special_values() {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(float_bits(exp32(0.0f)) == float_bits(1.0f));
  CHECK(float_bits(exp32(-0.0f)) == float_bits(1.0f));
  CHECK(exp32(inf) == inf);
  CHECK(exp32(88.72284f) == inf);  // the first float whose exponential rounds to infinity
  CHECK(exp32(88.72283f) < inf);
  CHECK(exp32(3.4e38f) == inf);
  CHECK(float_bits(exp32(-inf)) == 0);
  CHECK(float_bits(exp32(-3.4e38f)) == 0);
  CHECK(float_bits(exp32(-104.0f)) == 0);
  CHECK(float_bits(exp32(-103.98f)) == 0);
  CHECK(float_bits(exp32(-103.9f)) == 1);  // 2^-149
  CHECK(exp32(1e-40f) == 1.0f);
  for (const uint32_t nan : {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0x7fffffffu})
    CHECK(std::isnan(exp32(bits_float(nan))), nan);
}

// The vector code of each instruction set gives the bits of the scalar code, in every lane and at any length.
void exp32_is_the_same_on_all_paths() {
  std::vector<float> x;
  for (const uint32_t sign : {0u, 0x80000000u})
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += quick() ? 100003 : 4999) x.push_back(bits_float(sign | bits));
  for (uint32_t bits : {0u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffc12345u, 1u,
                        0x80000001u, 0x007fffffu, 0x7f7fffffu, 0xff7fffffu, 0x42b17217u, 0x42b17218u, 0xc2cff1b4u})
    x.push_back(bits_float(bits));
  for (const std::string& simd : cpu::available_simd()) {
    const cpu::Kernels& kernels = cpu::kernels_for(simd);
    CHECK(simd == kernels.name);
    std::vector<float> y = x;
    kernels.exp(y.data(), y.size());
    for (size_t i = 0; i < x.size(); ++i) CHECK(same(y[i], exp32(x[i])), simd, " exp32(", x[i], ")");
    for (size_t size = 0; size <= 33; ++size) {  // what lies behind the end is left alone
      std::vector<float> some(x.end() - 40, x.end());
      kernels.exp(some.data(), size);
      for (size_t i = 0; i < some.size(); ++i) {
        const float before = x[x.size() - 40 + i];
        CHECK(same(some[i], i < size ? exp32(before) : before), simd, " size ", size, " at ", i);
      }
    }
  }
}

// A matmul with one input, 1, and panels of all values of 16 bits: fma(1, w, +0) is w, but for the sign of zero.
// One row widens each value as it is used, many rows have them widened beforehand.
void widening_is_the_same_on_all_paths() {
  std::vector<uint16_t> w(0x10000);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<uint16_t>(i);
  const std::vector<float> ones(64, 1.0f);
  for (const std::string& simd : cpu::available_simd())
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16})
      for (const size_t rows : {size_t{1}, ones.size()}) {
        const cpu::Kernels& kernels = cpu::kernels_for(simd);
        std::vector<float> got(rows * w.size());
        const cpu::MatmulBlock block{ones.data(), rows, 1, w.data(), dtype, got.data(), w.size()};
        std::vector<float> scratch(kernels.matmul_scratch(block));
        CHECK(scratch.empty() == (rows == 1), simd);
        {
          const ForeignEnvironment foreign;
          const FloatEnvironment environment;
          kernels.matmul(block, 0, w.size() / cpu::kPanel, scratch.data());
        }
        for (size_t i = 0; i < got.size(); ++i)
          CHECK(same(got[i], load_float(w.data(), dtype, i % w.size()) + 0.0f), simd, " ",
                dtype == Dtype::f16 ? "f16 " : "bf16 ", i);
      }
}

void log64_is_accurate() {
  Random random(1);
  long double worst = 0;
  const auto hold = [&](double x) {
    const long double error = ulps64(log64(x), std::log(static_cast<long double>(x)));
    worst = std::max(worst, error);
    CHECK(error <= 2.5L, "log64(", x, "): ", static_cast<double>(error), " ulp");
  };
  for (int i = 0; i < (quick() ? 3000 : 300000); ++i) {
    hold(bits_double(random.next() % 0x7ff0000000000000ull));                // any magnitude, subnormal too
    hold((static_cast<double>(random.next() >> 12) + 0.5) * 0x1p-52);        // as gumbel() draws
    hold(1.0 - static_cast<double>(random.next() >> 40) * 0x1p-53);          // just below 1
    hold(0.70 + static_cast<double>(random.next() >> 11) * 0x1p-53 * 0.72);  // both ends of the reduced range
  }
  for (const double x : {0x1p-1074, 0x1p-1022, 0x1.fffffffffffffp-1023, 0x1.6a09e667f3bccp+0, 0x1.6a09e667f3bcdp+0,
                         0x1.6a09e667f3bcep+0, 0x1.6a09e667f3bcdp-1, 0x1.fffffffffffffp+1023, 10000.0, 500000.0})
    hold(x);
  CHECK(double_bits(log64(1.0)) == 0);
  printf("  log64: worst %.3f ulp\n", static_cast<double>(worst));
}

void exp64_is_accurate() {
  Random random(2);
  long double worst = 0;
  const auto hold = [&](double x) {
    const long double error = ulps64(exp64(x), std::exp(static_cast<long double>(x)));
    worst = std::max(worst, error);
    CHECK(error <= 1.5L, "exp64(", x, "): ", static_cast<double>(error), " ulp");
  };
  for (int i = 0; i < (quick() ? 3000 : 300000); ++i) {
    hold(-700.0 + static_cast<double>(random.next() >> 11) * 0x1p-53 * 1409.0);
    hold((static_cast<double>(random.next() >> 11) * 0x1p-53 - 0.5) * 2.0);
    hold(-static_cast<double>(random.next() >> 11) * 0x1p-53 * 20.0);
  }
  for (const double x : {-700.0, 709.0, 0x1p-60, -0x1p-60, 0.34657359027997264, -0.34657359027997264}) hold(x);
  CHECK(exp64(0.0) == 1.0 && exp64(-0.0) == 1.0);
  CHECK(double_bits(exp64(-700.0000001)) == 0 && double_bits(exp64(-1e308)) == 0);
  CHECK(double_bits(exp64(-std::numeric_limits<double>::infinity())) == 0);
  printf("  exp64: worst %.3f ulp\n", static_cast<double>(worst));
}

void sincos64_is_accurate() {
  Random random(3);
  long double worst = 0;
  const auto hold = [&](double x) {
    double sine, cosine;
    sincos64(x, &sine, &cosine);
    const long double s = std::sin(static_cast<long double>(x)), c = std::cos(static_cast<long double>(x));
    const long double error = std::max(std::fabs(sine - s), std::fabs(cosine - c));
    worst = std::max(worst, error);
    CHECK(error <= 0x1.8p-53L, "sincos64(", x, "): ", static_cast<double>(error));
    // What the tables keep is rounded to fp32: no further than a hair beyond half an ulp.
    CHECK(ulps32(static_cast<float>(sine), static_cast<double>(s)) <= 0.5001 || std::fabs(s) < 1e-7L, x);
  };
  for (int i = 0; i < (quick() ? 2000 : 200000); ++i) {
    const double unit = static_cast<double>(random.unit());
    hold(static_cast<double>(static_cast<float>(random.below(1 << 20)) * random.unit()));  // an angle of RoPE
    hold((unit - 0.5) * 8.0);
    hold((unit - 0.5) * 0x1p31);
    hold(unit * 0x1p-20);
    // The worst for a reduction: floats next to multiples of pi / 2.
    hold(static_cast<double>(static_cast<float>(static_cast<double>(random.below(1 << 20)) * kPi / 2)));
  }
  for (const double x : {0.0, 1.0, 0x1p20, -0x1p20, 0x1p29, 1048575.0, kPi / 4, 3 * kPi / 4, 0.78539818525314331})
    hold(x);
  double sine, cosine;
  sincos64(0.0, &sine, &cosine);
  CHECK(sine == 0.0 && cosine == 1.0);
  printf("  sincos64: worst error %.3g\n", static_cast<double>(worst));
}

// The nearest value with `mantissa` stored bits and exponents from `lowest`, ties to even, in double.
double nearest(double x, int mantissa, int lowest, double limit) {
  if (x == 0 || std::isinf(x)) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), lowest) - mantissa);
  const double rounded = std::nearbyint(x / unit) * unit;
  return std::fabs(rounded) > limit ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

bool same_value(float a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

void hold_rounding(float x) {
  if (x != x) {
    CHECK(round_f16(x) == 0x7e00 && round_bf16(x) == 0x7fc0, float_bits(x));
    CHECK(float_bits(canonical_nan(x)) == 0x7fc00000u);
    return;
  }
  CHECK(same_value(widen_f16(round_f16(x)), nearest(x, 10, -14, 65504.0)), "f16 ", float_bits(x));
  CHECK(same_value(widen_bf16(round_bf16(x)), nearest(x, 7, -126, 0x1.fep127)), "bf16 ", float_bits(x));
  CHECK(float_bits(canonical_nan(x)) == float_bits(x));
}

void widening_is_exact_and_rounding_undoes_it() {
  for (uint32_t pattern = 0; pattern < 0x10000u; ++pattern) {
    const auto h = static_cast<uint16_t>(pattern);
    const double sign = h & 0x8000 ? -1.0 : 1.0;
    const int exponent16 = (h >> 10) & 31, fraction16 = h & 1023, exponent = (h >> 7) & 255, fraction = h & 127;
    const float half = widen_f16(h), brain = widen_bf16(h);
    if (exponent16 == 31 && fraction16 != 0) {
      CHECK(half != half && round_f16(half) == 0x7e00, pattern);
    } else {
      const double value = exponent16 == 31  ? std::numeric_limits<double>::infinity()
                           : exponent16 == 0 ? std::ldexp(fraction16, -24)
                                             : std::ldexp(1024 + fraction16, exponent16 - 25);
      CHECK(same_value(half, sign * value), pattern);
      CHECK(round_f16(half) == h, pattern);
    }
    if (exponent == 255 && fraction != 0) {
      CHECK(brain != brain && round_bf16(brain) == 0x7fc0, pattern);
    } else {
      const double value = exponent == 255 ? std::numeric_limits<double>::infinity()
                           : exponent == 0 ? std::ldexp(fraction, -133)
                                           : std::ldexp(128 + fraction, exponent - 134);
      CHECK(same_value(brain, sign * value), pattern);
      CHECK(round_bf16(brain) == h, pattern);
    }
  }
}

void rounding_is_to_nearest_even() {
  Random random(4);
  for (int i = 0; i < (quick() ? 20000 : 2000000); ++i) {
    hold_rounding(bits_float(static_cast<uint32_t>(random.next())));
    // Magnitudes that binary16 has, or nearly: 2^-28 .. 2^18.
    hold_rounding(bits_float(static_cast<uint32_t>(random.next() & 0x807fffffu) |
                             static_cast<uint32_t>(99 + random.below(47)) << 23));
  }
  // Around every representable value and every tie between two of them.
  for (uint32_t h = 0; h < 0x8000u; h += quick() ? 7 : 1) {
    for (const uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t tie = (h << 16) + 0x8000u;
      for (uint32_t bits : {tie - 0x8000u, tie - 1, tie, tie + 1}) hold_rounding(bits_float(sign | bits));
      const float a = widen_f16(static_cast<uint16_t>(h)), b = widen_f16(static_cast<uint16_t>(h + 1));
      if (h >= 0x7bffu) continue;
      const uint32_t middle = float_bits((a + b) / 2);
      for (uint32_t bits : {middle - 1, middle, middle + 1}) hold_rounding(bits_float(sign | bits));
    }
  }
  CHECK(round_f16(65519.996f) == 0x7bff && round_f16(65520.0f) == 0x7c00 && round_f16(-65520.0f) == 0xfc00);
  CHECK(round_f16(0x1p-25f) == 0 && round_f16(0x1.000002p-25f) == 1 && round_f16(-0x1p-25f) == 0x8000);
  CHECK(round_f16(0x1.ffbffep-15f) == 0x03ff && round_f16(0x1.ffcp-15f) == 0x0400);
  CHECK(round_bf16(bits_float(0x7f7f8000u)) == 0x7f80 && round_bf16(bits_float(0x7f7f7fffu)) == 0x7f7f);
  CHECK(round_bf16(bits_float(0x00008000u)) == 0 && round_bf16(bits_float(0x00018000u)) == 2);
}

void philox_gives_the_published_vectors() {
  const uint32_t vectors[3][10] = {{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                   {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
                                    0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                   {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
                                    0x94fdcceb, 0x5001e420, 0x24126ea1}};
  for (const auto& v : vectors) {
    uint32_t out[4];
    philox(v, v + 4, out);
    for (int i = 0; i < 4; ++i) CHECK(out[i] == v[6 + i], i);
  }
}

void gumbel_noise_has_the_gumbel_distribution() {
  const uint32_t key[2] = {0x01234567u, 0x89abcdefu};
  const int num_tokens = quick() ? 100 : 1000, num_positions = quick() ? 50 : 300;
  const double count = static_cast<double>(num_tokens) * num_positions, gamma = 0.57721566490153286;
  double sum = 0, squares = 0, above_zero = 0, above_three = 0, neighbours = 0, last = 0;
  for (int position = 0; position < num_positions; ++position) {
    for (int token = 0; token < num_tokens; ++token) {
      const double g = gumbel(key, static_cast<uint32_t>(token), static_cast<uint32_t>(position));
      CHECK(g > -3.7 && g < 36.8, g);  // -ln(53 ln 2) .. 53 ln 2
      sum += g;
      squares += g * g;
      above_zero += g > 0;
      above_three += g > 3;
      neighbours += (g - gamma) * last;
      last = g - gamma;
    }
  }
  const double variance = kPi * kPi / 6, mean = sum / count;
  const auto near = [&](double got, double expected, double deviation) {
    CHECK(std::fabs(got - expected) < 5 * deviation / std::sqrt(count), got, " for ", expected);
  };
  near(mean, gamma, std::sqrt(variance));
  near(squares / count - mean * mean, variance, std::sqrt(4.4) * variance);  // kurtosis 5.4
  near(neighbours / count, 0, variance);
  for (const double x : {0.0, 3.0}) {
    const double p = 1 - std::exp(-std::exp(-x));
    near((x == 0 ? above_zero : above_three) / count, p, std::sqrt(p * (1 - p)));
  }
  // Token, position and both halves of the key all matter; nothing else does.
  const double g = gumbel(key, 5, 7);
  const uint32_t low[2] = {key[0] ^ 1, key[1]}, high[2] = {key[0], key[1] ^ 1};
  CHECK(gumbel(key, 5, 7) == g);
  CHECK(gumbel(key, 6, 7) != g && gumbel(key, 5, 8) != g && gumbel(low, 5, 7) != g && gumbel(high, 5, 7) != g);
}

}  // namespace

int main() {
  RUN(exp32_is_within_one_ulp);
  RUN(exp32_is_monotonic_where_results_are_small);
  RUN(exp32_of_special_values);
  RUN(exp32_is_the_same_on_all_paths);
  RUN(widening_is_the_same_on_all_paths);
  RUN(log64_is_accurate);
  RUN(exp64_is_accurate);
  RUN(sincos64_is_accurate);
  RUN(widening_is_exact_and_rounding_undoes_it);
  RUN(rounding_is_to_nearest_even);
  RUN(philox_gives_the_published_vectors);
  RUN(gumbel_noise_has_the_gumbel_distribution);
  return result();
}
