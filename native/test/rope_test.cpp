// RoPE frequencies and tables against pow, sin and cos in long double.
#include "../core/rope.h"

#include <cmath>

#include "check.h"
#include "reference.h"

using namespace poc;
using namespace poc::test;

namespace {

// In units of binary32's last place at `exact`.
long double ulps(float got, long double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0L, exponent - 24);
}

Config config_of(size_t head_dim, double theta) {
  Config c;
  c.head_dim = head_dim;
  c.rope_theta = theta;
  return c;
}

void frequencies_are_powers_of_theta() {
  for (const double theta : {10000.0, 500000.0, 1000000.0, 10.0, 1e9, 1.0})
    for (const size_t head_dim : {2, 6, 8, 64, 80, 128, 256}) {
      const std::vector<float> got = rope_frequencies(config_of(head_dim, theta));
      CHECK(got.size() == head_dim / 2 && got[0] == 1.0f);
      for (size_t i = 0; i < got.size(); ++i) {
        const long double exact = std::pow(static_cast<long double>(theta), -2.0L * i / head_dim);
        CHECK(ulps(got[i], exact) <= 0.5001L, theta, " ", head_dim, " ", i, ": ", got[i]);
      }
    }
}

// The rule as Llama 3.1's authors state it, in terms of how many turns fit into the original context.
double llama3(double frequency, const RopeScaling& s) {
  const double turns = s.original_max_positions * frequency / 6.283185307179586477;
  if (turns > s.high_freq_factor) return frequency;
  if (turns < s.low_freq_factor) return frequency / s.factor;
  const double share = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return frequency / s.factor + share * (frequency - frequency / s.factor);
}

void llama3_scaling_keeps_blends_and_divides() {
  for (const RopeScaling& scaling : {RopeScaling{8, 1, 4, 8192}, {32, 1, 4, 8192}, {4, 2, 16, 512}, {8, 1, 4, 64}})
    for (const size_t head_dim : {64, 128}) {
      Config c = config_of(head_dim, 500000);
      const std::vector<float> plain = rope_frequencies(c);
      c.rope_scaling = scaling;
      const std::vector<float> got = rope_frequencies(c);
      size_t kept = 0, divided = 0, blended = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        const double frequency = std::pow(500000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        CHECK(ulps(got[i], llama3(frequency, scaling)) <= 0.5001L, head_dim, " ", i, ": ", got[i]);
        CHECK(i == 0 || got[i] < got[i - 1], "frequencies fall");
        if (got[i] == plain[i])
          ++kept;
        else if (ulps(got[i], frequency / scaling.factor) <= 0.5001L)
          ++divided;
        else
          ++blended;
      }
      CHECK(kept > 0 && divided > 0 && blended > 0, kept, " ", blended, " ", divided);
    }
}

void tables_hold_cosines_and_sines_of_one_product() {
  const std::vector<float> frequencies = rope_frequencies(config_of(64, 500000));
  Random random(81);
  std::vector<uint32_t> positions{0, 1, 2, 3, 1023, 8191, 131071, 1048575, 16777217};
  while (positions.size() < 300) positions.push_back(static_cast<uint32_t>(random.below(1 << 20)));
  const std::vector<float> table = reference::rope_table(frequencies, positions.data(), positions.size());
  const size_t half = frequencies.size(), size = positions.size() * half;
  CHECK(table.size() == 2 * size);
  for (size_t row = 0; row < positions.size(); ++row)
    for (size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[row]) * frequencies[i];
      const long double cosine = std::cos(static_cast<long double>(angle)),
                        sine = std::sin(static_cast<long double>(angle));
      const float got_cosine = table[row * half + i], got_sine = table[size + row * half + i];
      if (positions[row] == 0) {
        CHECK(float_bits(got_cosine) == float_bits(1.0f) && float_bits(got_sine) == 0);
        continue;
      }
      CHECK(std::fabs(got_cosine - cosine) <= 0x1.001p-25L && std::fabs(got_sine - sine) <= 0x1.001p-25L,
            positions[row], " ", i);
      // Small results are as good in their own last place, down to where the double's reduction ends.
      CHECK(ulps(got_cosine, cosine) <= 0.51L || std::fabs(cosine) < 1e-7L, positions[row], " ", i);
      CHECK(ulps(got_sine, sine) <= 0.51L || std::fabs(sine) < 1e-7L, positions[row], " ", i);
    }
}

void a_row_depends_on_its_own_position_only() {
  const std::vector<float> frequencies = rope_frequencies(config_of(16, 10000));
  const std::vector<uint32_t> all{5, 900, 17, 0, 40000};
  const size_t half = frequencies.size();
  const std::vector<float> table = reference::rope_table(frequencies, all.data(), all.size());
  for (size_t row = 0; row < all.size(); ++row) {
    const std::vector<float> one = reference::rope_table(frequencies, &all[row], 1);
    for (size_t i = 0; i < half; ++i) {
      CHECK(float_bits(one[i]) == float_bits(table[row * half + i]));
      CHECK(float_bits(one[half + i]) == float_bits(table[(all.size() + row) * half + i]));
    }
  }
}

}  // namespace

int main() {
  RUN(frequencies_are_powers_of_theta);
  RUN(llama3_scaling_keeps_blends_and_divides);
  RUN(tables_hold_cosines_and_sines_of_one_product);
  RUN(a_row_depends_on_its_own_position_only);
  return result();
}
