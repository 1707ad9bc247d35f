// The choice of the next token: a pure function of logits, sampling parameters, key and position.
#pragma once
#include <cstddef>
#include <cstdint>

namespace poc {

struct Sampling {
  double temperature = 0;    // 0: greedy
  uint32_t top_k = 0;        // 0: off
  double top_p = 1;          // 1: off
  uint32_t key[2] = {0, 0};  // of the noise, made from the seed
};

// Philox4x32-10 (Salmon et al. 2011): ten rounds, four words out.
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// Standard Gumbel noise of `token` at `position`; the same on every machine.
double gumbel(const uint32_t key[2], uint32_t token, uint32_t position);

// The chosen id; `position` is the chosen token's own. Throws MODEL_NON_FINITE for a NaN or an infinity.
// Algorithm: docs/NUMERICS.md, section 9.
uint32_t choose_token(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position);

}  // namespace poc
