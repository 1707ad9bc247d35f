// RoPE frequencies and the cosines and sines of a run's positions.
#pragma once
#include <cstdint>
#include <vector>

#include "config.h"

namespace poc {

// head_dim / 2 frequencies theta^(-2i / head_dim), scaled as rope_type "llama3" says, rounded to fp32.
std::vector<float> rope_frequencies(const Config& config);

// Cosines then sines of `positions`: 2 x (num_positions, head_dim / 2). The angle is one fp32 product.
std::vector<float> rope_table(const std::vector<float>& frequencies, const uint32_t* positions, size_t num_positions);

}  // namespace poc
