#include "choose.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "elementary.h"
#include "error.h"
#include "float_environment.h"

namespace poc {
namespace {

void check_finite(const float* logits, size_t vocab_size) {
  for (size_t id = 0; id < vocab_size; ++id)
    if (!(logits[id] - logits[id] == 0))
      throw wrong_value("MODEL_NON_FINITE", "logits", "finite", "a NaN or an infinity for id " + std::to_string(id));
}

uint32_t greedy(const float* logits, size_t vocab_size) {
  size_t best = 0;
  for (size_t id = 1; id < vocab_size; ++id)
    if (logits[id] > logits[best]) best = id;  // ties: the lower id
  return static_cast<uint32_t>(best);
}

// Ids that top-k and then top-p leave, from the highest logit down; ties: the lower id first.
std::vector<uint32_t> candidates(const float* logits, size_t vocab_size, const Sampling& s) {
  std::vector<uint32_t> ids(vocab_size);
  std::iota(ids.begin(), ids.end(), 0u);
  const auto before = [&](uint32_t a, uint32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const size_t kept = s.top_k > 0 && s.top_k < vocab_size ? s.top_k : vocab_size;
  if (kept < vocab_size) std::nth_element(ids.begin(), ids.begin() + static_cast<long>(kept), ids.end(), before);
  ids.resize(kept);
  if (s.top_p >= 1) return ids;
  std::sort(ids.begin(), ids.end(), before);

  std::vector<double> weights(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    weights[i] = exp64(static_cast<double>(logits[ids[i]]) / s.temperature -
                       static_cast<double>(logits[ids[0]]) / s.temperature);
    total = total + weights[i];
  }
  double above = 0;
  size_t nucleus = 0;
  while (nucleus < kept && (nucleus == 0 || above < s.top_p * total)) above = above + weights[nucleus++];
  ids.resize(nucleus);
  return ids;
}

}  // namespace

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = static_cast<uint64_t>(0xD2511F53u) * c[0], b = static_cast<uint64_t>(0xCD9E8D57u) * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  std::copy(c, c + 4, out);
}

double gumbel(const uint32_t key[2], uint32_t token, uint32_t position) {
  const uint32_t counter[4] = {token, position, 0, 0};
  uint32_t words[4];
  philox(counter, key, words);
  const uint64_t bits = (static_cast<uint64_t>(words[0]) << 20) | (words[1] >> 12);
  const double uniform = (static_cast<double>(bits) + 0.5) * 0x1p-52;  // in (0, 1), exact
  return -log64(-log64(uniform));
}

uint32_t choose_token(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position) {
  const FloatEnvironment environment;
  check_finite(logits, vocab_size);
  if (sampling.temperature == 0) return greedy(logits, vocab_size);
  std::vector<uint32_t> ids = candidates(logits, vocab_size, sampling);
  uint32_t best = 0;
  double top = 0;
  bool any = false;
  for (const uint32_t id : ids) {
    const double score = static_cast<double>(logits[id]) / sampling.temperature + gumbel(sampling.key, id, position);
    if (!any || score > top || (score == top && id < best)) best = id, top = score, any = true;
  }
  return best;
}

}  // namespace poc
