#include "rope.h"

#include "elementary.h"
#include "float_environment.h"

namespace poc {
namespace {

constexpr double kTwoPi = 0x1.921fb54442d18p+2;

// Llama 3.1's rule: long wavelengths are stretched by `factor`, short ones kept, those between blended.
double scaled(double frequency, const RopeScaling& s) {
  if (s.factor == 0) return frequency;
  const double wavelength = kTwoPi / frequency;
  if (wavelength < s.original_max_positions / s.high_freq_factor) return frequency;
  if (wavelength > s.original_max_positions / s.low_freq_factor) return frequency / s.factor;
  const double smooth =
      (s.original_max_positions / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return __builtin_fma(smooth, frequency, (1.0 - smooth) * (frequency / s.factor));
}

}  // namespace

std::vector<float> rope_frequencies(const Config& config) {
  const FloatEnvironment environment;
  const double log_theta = log64(config.rope_theta);
  std::vector<float> out(config.head_dim / 2);
  for (size_t i = 0; i < out.size(); ++i) {
    const double exponent = -(static_cast<double>(2 * i) / static_cast<double>(config.head_dim));
    out[i] = static_cast<float>(scaled(exp64(exponent * log_theta), config.rope_scaling));
  }
  return out;
}

void rope_table(const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions, float* cosines,
                float* sines) {
  const FloatEnvironment environment;
  for (size_t i = 0; i < num_positions * half; ++i)
    rope_angle(frequencies[i % half], positions[i / half], cosines + i, sines + i);
}

}  // namespace poc
