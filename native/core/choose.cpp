#include "choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

void draw_words(const uint32_t key[2], uint32_t token, uint32_t position, uint32_t words[4]) {
  const uint32_t counter[4] = {token, position, 0, 0};
  philox(counter, key, words);
}

double noise_of(const uint32_t words[4]) {
  const uint64_t bits = (static_cast<uint64_t>(words[0]) << 20) | (words[1] >> 12);
  const double uniform = (static_cast<double>(bits) + 0.5) * 0x1p-52;  // in (0, 1), exact
  return -log64(-log64(uniform));
}

// No noise is larger: a uniform is at most 1 - 2^-53, for which it is 53 ln 2 = 36.74.
constexpr double kMostNoise = 36.8;

// Ids are held against the best score so far, and most of them lose before their noise is known: first those that no
// noise would help, then those whose uniform u cannot give the noise they need. Noise of at least d needs
// 1 - u < -ln u <= e^-d, and 1 - u is more than (2^32 - 1 - w0) 2^-32, w0 the first word of Philox.
class Contest {
 public:
  Contest(const float* logits, const Sampling& sampling, uint32_t position)
      : logits_(logits), sampling_(sampling), position_(position) {}

  void enter(uint32_t id) {
    const double quotient = static_cast<double>(logits_[id]) / sampling_.temperature;
    uint32_t words[4];
    if (any_) {
      if (quotient + kMostNoise < top_) return;  // rounding is monotone
      draw_words(sampling_.key, id, position_, words);
      if (cannot_win(quotient, words[0])) return;
    } else {
      draw_words(sampling_.key, id, position_, words);
    }
    const double score = quotient + noise_of(words);
    if (!any_ || score > top_ || (score == top_ && id < best_)) best_ = id, top_ = score, any_ = true;
  }

  uint32_t best() const { return best_; }
  double top() const { return top_; }

 private:
  static constexpr int kSteps = 8;          // of the table, for one unit of noise
  static constexpr double kPlain = 0x1p20;  // below, the rounding of scores is far less than kMargin
  static constexpr double kMargin = 0x1p-20;

  bool cannot_win(double quotient, uint32_t first_word) const {
    const double lacking = top_ - quotient - kMargin;
    if (!(lacking > 0) || !(std::fabs(quotient) < kPlain && std::fabs(top_) < kPlain)) return false;
    return ~first_word > limits()[static_cast<size_t>(lacking * kSteps)];
  }

  // At i: what 2^32 - 1 - w0 is at most where the noise is i / kSteps or more.
  static const std::vector<uint32_t>& limits() {
    static const std::vector<uint32_t> made = [] {
      std::vector<uint32_t> out(static_cast<size_t>((kMostNoise + 1) * kSteps));
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = static_cast<uint32_t>(
            std::min(exp64(-static_cast<double>(i) / kSteps) * (1 + 0x1p-30) * 0x1p32 + 1, 0x1p32 - 1));
      return out;
    }();
    return made;
  }

  const float* logits_;
  const Sampling& sampling_;
  const uint32_t position_;
  uint32_t best_ = 0;
  double top_ = 0;
  bool any_ = false;
};

double score_of(const float* logits, const Sampling& s, uint32_t id, uint32_t position) {
  return static_cast<double>(logits[id]) / s.temperature + gumbel(s.key, id, position);
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
  uint32_t words[4];
  draw_words(key, token, position, words);
  return noise_of(words);
}

Choice choose(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position, uint32_t claimed) {
  const FloatEnvironment environment;
  check_finite(logits, vocab_size);
  const auto choice = [&](uint32_t id, double score, double claimed_score) {
    return Choice{id, id == claimed || score == claimed_score ? 0.0 : score - claimed_score};
  };
  const uint32_t largest = greedy(logits, vocab_size);
  if (sampling.temperature == 0) return choice(largest, logits[largest], logits[claimed]);

  Contest contest(logits, sampling, position);
  bool left = true;  // the claimed id, by top-k and top-p
  if (sampling.top_p >= 1 && (sampling.top_k == 0 || sampling.top_k >= vocab_size)) {
    contest.enter(largest);  // a good score to begin with
    for (uint32_t id = 0; id < vocab_size; ++id) contest.enter(id);
  } else {
    const std::vector<uint32_t> ids = candidates(logits, vocab_size, sampling);
    for (const uint32_t id : ids) contest.enter(id);
    left = std::find(ids.begin(), ids.end(), claimed) != ids.end();
  }
  if (!left) return {contest.best(), std::numeric_limits<double>::infinity()};
  return choice(contest.best(), contest.top(), score_of(logits, sampling, claimed, position));
}

uint32_t choose_token(const float* logits, size_t vocab_size, const Sampling& sampling, uint32_t position) {
  return choose(logits, vocab_size, sampling, position, 0).id;
}

TokenStatistics token_statistics(const float* logits, size_t vocab_size, uint32_t token) {
  const FloatEnvironment environment;
  check_finite(logits, vocab_size);
  const double largest = logits[greedy(logits, vocab_size)];
  double total = 0, first = 0, second = 0;
  for (size_t id = 0; id < vocab_size; ++id) {
    const double x = static_cast<double>(logits[id]) - largest, weight = exp64(x), moment = weight * x;
    total = total + weight;
    first = first + moment;
    second = second + moment * x;
  }
  const double log_total = log64(total), mean = first / total;
  return {static_cast<double>(logits[token]) - largest - log_total, mean - log_total,
          std::max(second / total - mean * mean, 0.0)};
}

}  // namespace poc
