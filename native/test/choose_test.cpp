// The choice of a token against a brute force that takes its steps from docs/NUMERICS.md, section 9.
#include "../core/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "../core/elementary.h"
#include "../core/logit_loops.h"
#include "check.h"

using namespace poc;
using namespace poc::test;

namespace {

uint32_t choose(const std::vector<float>& logits, const Sampling& sampling, uint32_t position = 0) {
  return choose_token(logits.data(), logits.size(), sampling, position);
}

// All ids that some key chooses.
std::set<uint32_t> choices(const std::vector<float>& logits, Sampling sampling, uint32_t num_keys = 400) {
  std::set<uint32_t> chosen;
  for (uint32_t key = 0; key < num_keys; ++key) {
    sampling.key[0] = key;
    chosen.insert(choose(logits, sampling, key % 5));
  }
  return chosen;
}

Sampling sampling_of(double temperature, uint32_t top_k, double top_p) { return {temperature, top_k, top_p, {1, 2}}; }

using Ids = std::set<uint32_t>;

void greedy_takes_the_largest_and_the_lowest_id_of_equals() {
  CHECK(choose({1, 3, 2}, {}) == 1);
  CHECK(choose({5}, {}) == 0);
  CHECK(choose({-3, -1, -1, -2}, {}) == 1);
  CHECK(choose({-0.0f, 0.0f}, {}) == 0 && choose({0.0f, -0.0f}, {}) == 0);  // equal zeros
  CHECK(choose({-3.4e38f, -3.3e38f, bits_float(1)}, {}) == 2);
  Random random(51);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits;
    for (size_t i = 0; i < 1 + random.below(300); ++i) logits.push_back(static_cast<float>(random.below(40)));
    const auto best = static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const auto position = static_cast<uint32_t>(round);
    CHECK(choose(logits, sampling_of(0, 0, 1), position) == best);
    CHECK(choose(logits, sampling_of(0, 3, 0.5), position) == best, "top-k and top-p do not matter");
    CHECK(choose(logits, sampling_of(0.9, 1, 1), position) == best, "top-k of one");
    CHECK(choose(logits, sampling_of(0.9, 0, 1e-9), position) == best, "a nucleus of one");
  }
}

void nan_and_infinity_are_refused() {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {inf, -inf, bits_float(0x7fc00000u), bits_float(0xff800001u)})
    for (const double temperature : {0.0, 1.0})
      for (const size_t at : {0, 3, 6}) {
        std::vector<float> logits(7, 1.0f);
        logits[at] = bad;
        CHECK(error_of([&] { choose(logits, sampling_of(temperature, 2, 0.5)); }) == "MODEL_NON_FINITE logits", at);
      }
}

void top_k_keeps_the_lower_ids_of_equals() {
  CHECK((choices({1, 2, 2, 2, 0}, sampling_of(1, 2, 1)) == Ids{1, 2}));
  CHECK((choices({1, 2, 2, 2, 0}, sampling_of(1, 3, 1)) == Ids{1, 2, 3}));
  CHECK((choices({2, 2, 2, 2, 2}, sampling_of(1, 4, 1)) == Ids{0, 1, 2, 3}));
  CHECK((choices({1, 1, 3, 1}, sampling_of(1, 2, 1)) == Ids{0, 2}));
  CHECK((choices({0.5f, 0, 1}, sampling_of(1, 0, 1)) == Ids{0, 1, 2}));
  CHECK((choices({0.5f, 0, 1}, sampling_of(1, 3, 1)) == Ids{0, 1, 2}));
  CHECK((choices({0.5f, 0, 1}, sampling_of(1, 4000000000u, 1)) == Ids{0, 1, 2}));
}

// Equal logits have weights of exactly 1, so these sums have no rounding in them.
void top_p_stops_where_the_sum_is_reached() {
  const std::vector<float> two{7, 7}, four{-1, -1, -1, -1};
  CHECK((choices(two, sampling_of(1, 0, 0.5)) == Ids{0}));
  CHECK((choices(two, sampling_of(1, 0, 0.5000001)) == Ids{0, 1}));
  CHECK((choices(two, sampling_of(1, 0, 0.4999999)) == Ids{0}));
  CHECK((choices(four, sampling_of(3, 0, 0.75)) == Ids{0, 1, 2}));
  CHECK((choices(four, sampling_of(3, 0, 0.7500001)) == Ids{0, 1, 2, 3}));
  CHECK((choices(four, sampling_of(3, 0, 0x1.fffffffffffffp-1)) == Ids{0, 1, 2, 3}));
  CHECK((choices(four, sampling_of(3, 0, 5e-324)) == Ids{0}));
  CHECK((choices(four, sampling_of(3, 0, 1)) == Ids{0, 1, 2, 3}));
  // The nucleus is taken from what top-k left: 0.75 of two is two.
  CHECK((choices(four, sampling_of(3, 2, 0.75)) == Ids{0, 1}));
  // Weights 4 : 2 : 1 in a shuffled order, and an id that is all but impossible.
  const std::vector<float> ratio{std::log(2.0f), -90, std::log(4.0f), 0};
  CHECK((choices(ratio, sampling_of(1, 0, 0.57)) == Ids{2}));
  CHECK((choices(ratio, sampling_of(1, 0, 0.58)) == Ids{0, 2}));
  CHECK((choices(ratio, sampling_of(1, 0, 0.87)) == Ids{0, 2, 3}));
}

// The formula of section 9 for all ids, none left out.
Choice plain_choice(const std::vector<float>& logits, const Sampling& s, uint32_t position, uint32_t claimed) {
  const auto score = [&](uint32_t id) { return logits[id] / s.temperature + gumbel(s.key, id, position); };
  uint32_t best = 0;
  for (uint32_t id = 1; id < logits.size(); ++id)
    if (score(id) > score(best)) best = id;
  return {best, best == claimed || score(best) == score(claimed) ? 0 : score(best) - score(claimed)};
}

void hold_plain(const std::vector<float>& logits, const Sampling& s, uint32_t position, uint32_t claimed,
                const std::string& what) {
  const Choice got = choose(logits.data(), logits.size(), s, position, claimed);
  const Choice expected = plain_choice(logits, s, position, claimed);
  CHECK(got.id == expected.id && got.gap == expected.gap, what, ": ", got.id, " by ", got.gap, " for ", expected.id,
        " by ", expected.gap);
}

// Ids are left out before their noise is known; none may be that could win.
void what_is_left_out_could_not_have_won() {
  Random random(54);
  const int rounds = quick() ? 20 : 250;
  for (int round = 0; round < rounds; ++round) {
    Sampling s = sampling_of(0.05 + random.unit() * 2, 0, 1);
    s.key[0] = static_cast<uint32_t>(random.next()), s.key[1] = static_cast<uint32_t>(random.next());
    const auto position = static_cast<uint32_t>(random.next()), claimed = static_cast<uint32_t>(random.below(300));
    // Spreads from a few units to where one step of the score is larger than any noise.
    for (const double scale : {0.0, 1.0, 6.0, 30.0, 1e5, 3e6, 1e15, 1e30}) {
      std::vector<float> logits(300 + random.below(700));
      for (float& logit : logits) logit = static_cast<float>(random.bell() * scale);
      hold_plain(logits, s, position, claimed, text("scale ", scale));
    }
    // Equal logits so large that scores are rounded to few values, which the lowest id wins.
    for (int power = 18; power < 60; power += 3)
      hold_plain(std::vector<float>(500, static_cast<float>(std::ldexp(s.temperature, power))), s, position, claimed,
                 text("2^", power));
    // Logits that make up for the noise, all around offsets of any size: every score is as good as the others'.
    for (const double offset : {0.0, 20.0, -300.0, 1e6, 2e6, -1e9, 0x1p50}) {
      std::vector<float> logits;
      for (uint32_t id = 0; id < 600; ++id)
        logits.push_back(static_cast<float>((offset - gumbel(s.key, id, position)) * s.temperature));
      hold_plain(logits, s, position, claimed, text("offset ", offset));
      logits[random.below(600)] += 1;
      hold_plain(logits, s, position, claimed, text("offset ", offset, " and one above"));
    }
  }
}

// Every code of the loops gives the values of the formulas, whatever the count.
void all_loops_give_the_same_bits() {
  Random random(55);
  CHECK(std::string(logit_loops().back().name) == "plain");
  for (const LogitLoops& loops : logit_loops())
    for (int round = 0; round < 300; ++round) {
      const size_t count = 1 + random.below(kLogitBlock);
      const double largest = random.bell() * 10, temperature = 0.01 + random.unit() * 3;
      const auto first_id = static_cast<uint32_t>(random.next()), position = static_cast<uint32_t>(random.next());
      const uint32_t key[2] = {static_cast<uint32_t>(random.next()), static_cast<uint32_t>(random.next())};
      std::vector<float> logits;
      const double scale = round % 3 == 0 ? 400 : 10;  // beyond what exp64 keeps
      while (logits.size() < count)
        logits.push_back(std::min(static_cast<float>(random.bell() * scale), static_cast<float>(largest)));
      std::vector<double> x(count + 1, 77), weights = x, quotients = x;
      std::vector<uint32_t> words(count + 1, 77);
      loops.divide(logits.data(), count, temperature, quotients.data());
      loops.first_words(key, first_id, position, count, words.data());
      for (size_t i = 0; i < count; ++i) x[i] = logits[i] - largest;
      loops.exponentials(x.data(), count, weights.data());
      for (size_t i = 0; i < count; ++i) {
        const uint32_t counter[4] = {first_id + static_cast<uint32_t>(i), position, 0, 0};
        uint32_t out[4];
        philox(counter, key, out);
        CHECK(words[i] == out[0], loops.name, " ", i);
        CHECK(quotients[i] == logits[i] / temperature, loops.name, " ", i);
        CHECK(double_bits(weights[i]) == double_bits(exp64(x[i])), loops.name, " ", x[i]);
      }
      CHECK(words[count] == 77 && quotients[count] == 77 && weights[count] == 77, loops.name);
    }
}

void a_gap_is_the_difference_of_scores() {
  const std::vector<float> logits{2, -1, 2, 0.5f};
  const double inf = std::numeric_limits<double>::infinity();
  const auto gap = [&](const Sampling& s, uint32_t claimed) {
    return choose(logits.data(), logits.size(), s, 9, claimed).gap;
  };
  CHECK(gap({}, 0) == 0 && gap({}, 2) == 0 && gap({}, 1) == 3 && gap({}, 3) == 1.5);
  CHECK(gap(sampling_of(0, 1, 0.1), 1) == 3, "top-k and top-p do not matter");
  for (const Sampling& s : {sampling_of(1, 2, 1), sampling_of(0.5, 0, 0.5), sampling_of(2, 3, 0.6)}) {
    const Ids left = choices(logits, s);
    CHECK(!left.empty() && left.size() < 4);
    const uint32_t chosen = choose(logits, s, 9);
    for (uint32_t id = 0; id < 4; ++id) {
      const double score = logits[chosen] / s.temperature + gumbel(s.key, chosen, 9);
      const double expected = left.count(id) ? score - (logits[id] / s.temperature + gumbel(s.key, id, 9)) : inf;
      CHECK(gap(s, id) == (id == chosen ? 0 : expected), id);
    }
  }
  const std::vector<float> far{-3e38f, 3e38f};  // quotients overflow
  CHECK(choose(far.data(), 2, sampling_of(5e-324, 0, 1), 0, 0).gap == inf);
  CHECK(choose(far.data(), 2, sampling_of(5e-324, 0, 1), 0, 1).gap == 0);
}

// Full sort, sums in long double, every candidate scored. Sets `unclear` where rounding could decide.
uint32_t brute_force(const std::vector<float>& logits, const Sampling& s, uint32_t position, bool* unclear) {
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < logits.size(); ++id) ids.push_back(id);
  std::stable_sort(ids.begin(), ids.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
  if (s.top_k > 0 && s.top_k < ids.size()) ids.resize(s.top_k);
  if (s.top_p < 1) {
    std::vector<long double> weights;
    long double total = 0, before = 0;
    for (const uint32_t id : ids) {
      weights.push_back(std::exp((static_cast<long double>(logits[id]) - logits[ids[0]]) / s.temperature));
      total += weights.back();
    }
    size_t kept = 0;
    for (; kept < ids.size(); before += weights[kept++]) {
      *unclear |= kept > 0 && std::fabs(before / total - s.top_p) < 1e-12L;
      if (kept > 0 && before >= s.top_p * total) break;
    }
    ids.resize(kept);
  }
  std::sort(ids.begin(), ids.end());
  std::vector<double> scores;
  for (const uint32_t id : ids) scores.push_back(logits[id] / s.temperature + gumbel(s.key, id, position));
  return ids[static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin())];
}

void any_choice_is_the_brute_forces() {
  Random random(52);
  size_t compared = 0;
  const size_t rounds = quick() ? 300 : 6000;
  for (size_t round = 0; round < rounds; ++round) {
    std::vector<float> logits;
    const size_t size = 1 + random.below(round % 10 == 0 ? 400 : 30);
    const bool coarse = random.below(3) == 0;  // many ties
    for (size_t i = 0; i < size; ++i)
      logits.push_back(coarse ? static_cast<float>(random.below(5)) : random.bell() * 8 + 3);
    Sampling s;
    s.temperature = 0.05 + random.unit() * 2;
    s.top_k = static_cast<uint32_t>(random.below(3) == 0 ? 0 : random.below(size + 3));
    s.top_p = random.below(3) == 0 ? 1 : random.unit();
    s.key[0] = static_cast<uint32_t>(random.next()), s.key[1] = static_cast<uint32_t>(random.next());
    const auto position = static_cast<uint32_t>(random.below(100000));
    bool unclear = false;
    const uint32_t expected = brute_force(logits, s, position, &unclear);
    if (unclear) continue;
    ++compared;
    CHECK(choose(logits, s, position) == expected, "round ", round);
  }
  CHECK(compared * 10 > rounds * 9, compared, " of ", rounds);
}

// The nucleus as section 9 has it: every id sorted by comparing, every weight summed in that order.
Ids plain_nucleus(const std::vector<float>& logits, const Sampling& s) {
  std::vector<uint32_t> ids(logits.size());
  for (uint32_t id = 0; id < ids.size(); ++id) ids[id] = id;
  std::stable_sort(ids.begin(), ids.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
  std::vector<double> weights;
  double total = 0, above = 0;
  for (const uint32_t id : ids) {
    weights.push_back(exp64(logits[id] / s.temperature - logits[ids[0]] / s.temperature));
    total += weights.back();
  }
  Ids kept;
  for (size_t i = 0; i < ids.size() && (i == 0 || above < s.top_p * total); ++i) {
    kept.insert(ids[i]);
    above += weights[i];
  }
  return kept;
}

// Exactly the ids of the nucleus have a gap that is not infinite.
void large_nuclei_are_those_of_the_formula() {
  Random random(56);
  for (const double scale : {0.0, 1.0, 4.0, 40.0, 1e6})
    for (const double top_p : {1e-9, 0.3, 0.95, 0.999999, 0x1.fffffffffffffp-1}) {
      std::vector<float> logits(2000 + random.below(2000));
      for (float& logit : logits) {
        logit = static_cast<float>(random.bell() * scale);
        if (random.below(8) == 0) logit = random.below(2) ? 0.0f : -0.0f;
        if (random.below(8) == 0) logit = logits[random.below(logits.size())];
      }
      const Sampling s = sampling_of(0.25 + random.unit(), 0, top_p);
      const Ids kept = plain_nucleus(logits, s);
      for (int i = 0; i < 40; ++i) {
        const auto id = static_cast<uint32_t>(random.below(logits.size()));
        const bool left = choose(logits.data(), logits.size(), s, 3, id).gap < std::numeric_limits<double>::infinity();
        CHECK(left == (kept.count(id) > 0), scale, " ", top_p, " ", id);
      }
      CHECK(kept.count(choose(logits, s, 3)) > 0, scale, " ", top_p);
    }
}

void choices_follow_the_softmax() {
  const std::vector<float> logits{1, 0, -1, 2.5f, 0.5f};
  const int count = quick() ? 4000 : 60000;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::vector<double> seen(logits.size()), p;
    Sampling s = sampling_of(temperature, 0, 1);
    for (int i = 0; i < count; ++i) seen[choose(logits, s, static_cast<uint32_t>(i))] += 1;
    double total = 0;
    for (const float logit : logits) p.push_back(std::exp(logit / temperature)), total += p.back();
    for (size_t id = 0; id < logits.size(); ++id) {
      const double share = p[id] / total, deviation = std::sqrt(share * (1 - share) / count);
      CHECK(std::fabs(seen[id] / count - share) < 5 * deviation, temperature, " ", id, ": ", seen[id] / count, " for ",
            share);
    }
  }
}

void the_choice_is_pure() {
  Random random(53);
  const std::vector<float> logits = random.bells(500, 4), before = logits;
  const Sampling s{0.8, 50, 0.95, {3, 4}};
  std::vector<uint32_t> first;
  for (uint32_t position = 0; position < 50; ++position) first.push_back(choose(logits, s, position));
  for (uint32_t position = 50; position-- > 0;) CHECK(choose(logits, s, position) == first[position], "any order");
  CHECK(memcmp(before.data(), logits.data(), logits.size() * sizeof(float)) == 0);
  CHECK(std::set<uint32_t>(first.begin(), first.end()).size() > 5, "the position matters");
  CHECK(choices(logits, s).size() > 5, "the key matters");
}

void tiny_temperatures_do_not_fail() {
  CHECK(choose({1, 3, 2}, sampling_of(1e-30, 0, 0.9)) == 1);
  CHECK(choose({1, 3, 2}, sampling_of(1e-300, 0, 1)) == 1);
  CHECK(choose({-1, -3, -2}, sampling_of(1e-300, 2, 0.5)) == 0);
  CHECK(choose({-3e38f, 3e38f}, sampling_of(5e-324, 0, 0.9)) == 1);  // quotients overflow
}

}  // namespace

int main() {
  RUN(greedy_takes_the_largest_and_the_lowest_id_of_equals);
  RUN(nan_and_infinity_are_refused);
  RUN(top_k_keeps_the_lower_ids_of_equals);
  RUN(top_p_stops_where_the_sum_is_reached);
  RUN(any_choice_is_the_brute_forces);
  RUN(large_nuclei_are_those_of_the_formula);
  RUN(choices_follow_the_softmax);
  RUN(what_is_left_out_could_not_have_won);
  RUN(all_loops_give_the_same_bits);
  RUN(a_gap_is_the_difference_of_scores);
  RUN(the_choice_is_pure);
  RUN(tiny_temperatures_do_not_fail);
  return result();
}
