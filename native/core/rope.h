// RoPE frequencies and the cosines and sines of a run's positions.
#pragma once
#include <cstdint>
#include <vector>

#include "config.h"

namespace poc {

// head_dim / 2 frequencies theta^(-2i / head_dim), scaled as rope_type "llama3" says, rounded to fp32.
std::vector<float> rope_frequencies(const Config& config);

// cosines, sines (num_positions, half) of `positions`. The angle is one fp32 product.
void rope_table(const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions, float* cosines,
                float* sines);

}  // namespace poc
