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

// Philox4x32-10, see philox.h: four words out.
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// Standard Gumbel noise of `token` at `position`; the same on every machine.
double gumbel(const uint32_t key[2], uint32_t token, uint32_t position);

// A choice, and how far it was from another one.
struct Choice {
  uint32_t id;
  // Score of `id` less that of the claimed id: logit over temperature plus noise, or the logit where temperature is 0.
  // 0 where they are equal, infinity where top-k or top-p leave the claimed id out.
  double gap;
};

// `position` is the chosen token's own; `claimed` an id. Throws MODEL_NON_FINITE for a NaN or an infinity.
// Algorithm: docs/NUMERICS.md, section 9.
Choice choose(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position, uint32_t claimed);

// The chosen id alone.
uint32_t choose_token(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position);

// How improbable a model finds a token, in nats: -ln p(token) / 2 - ln(sum of sqrt(p)), with p at temperature 1 over
// the whole vocabulary. Of a token drawn from p, the expectation of exp(surprise) is 1; of one drawn in any way that
// prefers likely tokens (a lower temperature, top-k, top-p) it is less.
//
// In binary64. With m the largest logit, x = logit - m and ids in ascending order, two chains: Z = sum exp64(x), R =
// sum sqrt(exp64(x)). Then it is log64(Z) - x(token) / 2 - log64(R). Throws MODEL_NON_FINITE as choose() does.
double token_surprise(const float* logits, size_t vocab_size, uint32_t token);

}  // namespace poc
