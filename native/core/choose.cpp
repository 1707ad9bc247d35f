#include "choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "elementary.h"
#include "error.h"
#include "float_environment.h"
#include "logit_loops.h"
#include "philox.h"

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

// Bits that ascend as the logit descends; both zeros are one.
uint32_t descending_bits(float logit) {
  const uint32_t bits = float_bits(logit + 0.0f);
  return bits >> 31 ? bits : bits ^ 0x7fffffffu;
}

// All ids from the highest logit down, equal ones in ascending order: a radix sort, which is stable.
std::vector<uint32_t> sorted_ids(const float* logits, size_t vocab_size) {
  constexpr int kDigits = 3, kBits = 11;
  constexpr size_t kValues = size_t{1} << kBits;
  struct Entry {
    uint32_t bits, id;
    size_t digit(int i) const { return bits >> (i * kBits) & (kValues - 1); }
  };
  std::vector<Entry> entries(vocab_size), other(vocab_size);
  std::vector<size_t> starts(kDigits * kValues, 0);
  for (size_t id = 0; id < vocab_size; ++id) {
    entries[id] = {descending_bits(logits[id]), static_cast<uint32_t>(id)};
    for (int i = 0; i < kDigits; ++i) ++starts[static_cast<size_t>(i) * kValues + entries[id].digit(i)];
  }
  for (int i = 0; i < kDigits; ++i) {
    size_t* const own = starts.data() + static_cast<size_t>(i) * kValues;
    std::exclusive_scan(own, own + kValues, own, size_t{0});
    for (const Entry& entry : entries) other[own[entry.digit(i)]++] = entry;
    entries.swap(other);
  }
  std::vector<uint32_t> ids(vocab_size);
  for (size_t i = 0; i < vocab_size; ++i) ids[i] = entries[i].id;
  return ids;
}

// The first topK of sorted_ids().
std::vector<uint32_t> first_ids(const float* logits, size_t vocab_size, size_t top_k) {
  std::vector<uint32_t> ids(vocab_size);
  std::iota(ids.begin(), ids.end(), 0u);
  const auto before = [&](uint32_t a, uint32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  std::nth_element(ids.begin(), ids.begin() + static_cast<long>(top_k), ids.end(), before);
  ids.resize(top_k);
  std::sort(ids.begin(), ids.end(), before);
  return ids;
}

// How many of `ids` top-p leaves. Weights below 2^-54 add nothing to a sum of 1 or more and are left out: the sum
// before them is the total, so that none of them is kept either.
size_t nucleus_of(const std::vector<uint32_t>& ids, const float* logits, const Sampling& s) {
  constexpr double kNothing = -38;  // e^-38 = 2^-54.8
  std::vector<double> x(ids.size()), weights(ids.size());
  const double largest = static_cast<double>(logits[ids[0]]) / s.temperature;
  for (size_t i = 0; i < ids.size(); ++i) x[i] = static_cast<double>(logits[ids[i]]) / s.temperature - largest;
  size_t counted = 0;
  while (counted < ids.size() && !(x[counted] < kNothing)) ++counted;
  logit_loops().front().exponentials(x.data(), counted, weights.data());
  double total = 0, above = 0;
  for (size_t i = 0; i < counted; ++i) total = total + weights[i];
  size_t nucleus = 0;
  while (nucleus < counted && (nucleus == 0 || above < s.top_p * total)) above = above + weights[nucleus++];
  return nucleus;
}

// Ids that top-k and then top-p leave, from the highest logit down; ties: the lower id first.
std::vector<uint32_t> candidates(const float* logits, size_t vocab_size, const Sampling& s) {
  const bool all = s.top_k == 0 || s.top_k >= vocab_size;
  std::vector<uint32_t> ids = all ? sorted_ids(logits, vocab_size) : first_ids(logits, vocab_size, s.top_k);
  if (s.top_p < 1) ids.resize(nucleus_of(ids, logits, s));
  return ids;
}

double noise_of(uint32_t w0, uint32_t w1) {
  const uint64_t bits = (static_cast<uint64_t>(w0) << 20) | (w1 >> 12);
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

  void enter(uint32_t id) { enter_block(id, 1); }

  void enter_all(size_t vocab_size) {
    for (size_t id = 0; id < vocab_size; id += kLogitBlock)
      enter_block(static_cast<uint32_t>(id), std::min(kLogitBlock, vocab_size - id));
  }

  uint32_t best() const { return best_; }
  double top() const { return top_; }

 private:
  static constexpr int kSteps = 8;          // of the table, for one unit of noise
  static constexpr double kPlain = 0x1p20;  // below, the rounding of scores is far less than kMargin
  static constexpr double kMargin = 0x1p-20;

  void enter_block(uint32_t first_id, size_t count) {
    double quotients[kLogitBlock];
    uint32_t words[kLogitBlock];
    loops_.divide(logits_ + first_id, count, sampling_.temperature, quotients);
    loops_.first_words(sampling_.key, first_id, position_, count, words);
    for (size_t i = 0; i < count; ++i) {
      const double quotient = quotients[i];
      if (any_ && (quotient + kMostNoise < top_ || cannot_win(quotient, words[i]))) continue;  // rounding is monotone
      const uint32_t id = first_id + static_cast<uint32_t>(i);
      const double score = quotient + gumbel(sampling_.key, id, position_);
      if (!any_ || score > top_ || (score == top_ && id < best_)) best_ = id, top_ = score, any_ = true;
    }
  }

  bool cannot_win(double quotient, uint32_t first_word) const {
    const double lacking = top_ - quotient - kMargin;
    if (!(lacking > 0) || !(std::fabs(quotient) < kPlain && std::fabs(top_) < kPlain)) return false;
    return ~first_word > limits_[static_cast<size_t>(lacking * kSteps)];
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

  const LogitLoops& loops_ = logit_loops().front();
  const std::vector<uint32_t>& limits_ = limits();
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
  const PhiloxWords words = philox_words(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  out[0] = words.w0, out[1] = words.w1, out[2] = words.w2, out[3] = words.w3;
}

double gumbel(const uint32_t key[2], uint32_t token, uint32_t position) {
  const PhiloxWords words = philox_words(token, position, 0, 0, key[0], key[1]);
  return noise_of(words.w0, words.w1);
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
    contest.enter_all(vocab_size);
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

double token_surprise(const float* logits, size_t vocab_size, uint32_t token) {
  const FloatEnvironment environment;
  check_finite(logits, vocab_size);
  const double largest = logits[greedy(logits, vocab_size)];
  double total = 0, roots = 0, x[kLogitBlock], weights[kLogitBlock];
  for (size_t begin = 0; begin < vocab_size; begin += kLogitBlock) {
    const size_t count = std::min(kLogitBlock, vocab_size - begin);
    for (size_t i = 0; i < count; ++i) x[i] = static_cast<double>(logits[begin + i]) - largest;
    logit_loops().front().exponentials(x, count, weights);
    for (size_t i = 0; i < count; ++i) {
      total = total + weights[i];
      roots = roots + std::sqrt(weights[i]);
    }
  }
  return log64(total) - (static_cast<double>(logits[token]) - largest) / 2 - log64(roots);
}

}  // namespace poc
