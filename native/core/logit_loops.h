// The loops over a vocabulary in the choice of a token and its statistics, compiled for newer processors too. Each
// value is its own, so that every code gives the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace poc {

constexpr size_t kLogitBlock = 256;  // most values of one call

struct LogitLoops {
  const char* name;
  // quotients[i] = logits[i] / temperature
  void (*divide)(const float* logits, size_t count, double temperature, double* quotients);
  // words[i]: the first word of philox() for id first_id + i
  void (*first_words)(const uint32_t key[2], uint32_t first_id, uint32_t position, size_t count, uint32_t* words);
  // weights[i] = exp64(x[i])
  void (*exponentials)(const double* x, size_t count, double* weights);
};

// What this processor can run, best first; "plain" is the last one.
const std::vector<LogitLoops>& logit_loops();

}  // namespace poc
