// Replay against decoding: what the head gives for hidden states of the virtual layer, token by token, and the sampler
// and the surprise in plain formulas.
#include "../core/replay.h"

#include <cmath>
#include <limits>

#include "packed_pass.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};

// Hidden states of the virtual layer in a backend's memory, as a pass leaves them there.
struct FinalRows {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Ops> ops;
  std::shared_ptr<Buffer> memory;
  Rows rows;

  FinalRows(std::shared_ptr<const Model> loaded, Dtype kv, const std::vector<uint32_t>& tokens,
            const std::vector<uint32_t>& positions, size_t chunk)
      : model(std::move(loaded)), ops(model->backend->ops(never)) {
    KvCache cache(*model, kv, tokens.size(), 1);
    const auto layer = static_cast<uint32_t>(model->config.num_layers);
    Prefill pass(*model, *ops, cache, {{tokens, {{layer}, {positions}}}}, chunk, never);
    while (pass.next()) pass.take_samples();
    memory = pass.final_memory();
    rows = pass.final_rows();
  }

  std::vector<double> replay(const Replay& claimed) const {
    std::vector<double> out(claimed.rows.size() * kReplayValues + 1, 77);
    poc::replay(*model, *ops, rows, claimed, never, out.data());
    CHECK(out.back() == 77);
    out.pop_back();
    return out;
  }
};

// Logits behind every position, by decoding.
std::vector<std::vector<float>> decoded_logits(std::shared_ptr<const Model> model, Dtype kv,
                                               const std::vector<uint32_t>& tokens) {
  Sequence sequence(model, kv, tokens.size(), 8);
  std::vector<std::vector<float>> all;
  for (const uint32_t token : tokens) {
    all.emplace_back(model->config.vocab_size);
    sequence.append({token}, {}, nullptr, nullptr, all.back().data(), never);
  }
  return all;
}

Sampling sampling_of(double temperature, uint32_t top_k, double top_p) { return {temperature, top_k, top_p, {5, 6}}; }

bool near(double a, double b) { return std::fabs(a - b) <= 1e-9 * (1 + std::fabs(b)); }

// And what makes it a test: over all tokens, exp(surprise) is 1 on average.
void hold_surprise(double got, const std::vector<float>& logits, uint32_t token, const std::string& what) {
  long double total = 0, roots = 0, mean = 0;
  const long double largest = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) total += std::exp(logit - largest);
  const auto p = [&](size_t id) { return std::exp(logits[id] - largest) / total; };
  for (size_t id = 0; id < logits.size(); ++id) roots += std::sqrt(p(id));
  const long double expected = -std::log(p(token)) / 2 - std::log(roots);
  CHECK(near(got, static_cast<double>(expected)), what, " ", got, " for ", static_cast<double>(expected));
  for (uint32_t id = 0; id < logits.size(); ++id)
    mean += p(id) * std::exp(static_cast<long double>(token_surprise(logits.data(), logits.size(), id)));
  CHECK(near(static_cast<double>(mean), 1), what, " ", static_cast<double>(mean));
}

void replay_is_the_sampler_on_the_logits_of_decoding() {
  Random random(71);
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 12 : 45);
    const auto logits = decoded_logits(model, m.kv, tokens);
    std::vector<uint32_t> positions;
    for (uint32_t p = 0; p < tokens.size(); ++p)
      if (random.below(3) > 0) positions.push_back(p);
    if (positions.empty()) positions = {0};
    const FinalRows final(m.load(2, "auto"), m.kv, tokens, positions, 7);
    Replay claimed;
    for (uint32_t row = static_cast<uint32_t>(positions.size()); row-- > 0;) {  // any order, some twice
      for (size_t times = 1 + random.below(2); times > 0; --times) {
        claimed.rows.push_back(row);
        claimed.positions.push_back(positions[row] + 1);
        claimed.tokens.push_back(static_cast<uint32_t>(random.below(m.config.vocab_size)));
      }
    }
    for (const Sampling& s :
         {sampling_of(0, 0, 1), sampling_of(0.8, 0, 1), sampling_of(1, 7, 1), sampling_of(1, 0, 0.6)}) {
      claimed.sampling = s;
      claimed.surprise = s.temperature == 1;
      const std::vector<double> got = final.replay(claimed);
      for (size_t i = 0; i < claimed.rows.size(); ++i) {
        const std::vector<float>& own = logits[positions[claimed.rows[i]]];
        const std::string what = text(m.name, " ", i, " at temperature ", s.temperature);
        const Choice choice = choose(own.data(), own.size(), s, claimed.positions[i], claimed.tokens[i]);
        const double* values = got.data() + i * kReplayValues;
        CHECK(values[0] == choose_token(own.data(), own.size(), s, claimed.positions[i]), what);
        CHECK(values[0] == choice.id && values[1] == choice.gap, what);
        if (claimed.surprise)
          hold_surprise(values[2], own, claimed.tokens[i], what);
        else
          CHECK(values[2] != values[2], what);
      }
    }
    claimed.sampling.reset();
    const std::vector<double> got = final.replay(claimed);
    CHECK(got[0] == -1 && got[1] != got[1] && near(got[2], got[2]), m.name);
  }
}

// More rows than one chunk has, with a vocabulary that is no multiple of anything.
void chunks_change_nothing() {
  RandomModel m = random_model("large_vocabulary", Dtype::bf16, Dtype::f32, shape(40009, 8, 8, 1, 1, 1, 8));
  const std::vector<uint32_t> tokens = m.tokens(quick() ? 220 : 450);
  std::vector<uint32_t> positions(tokens.size());
  for (uint32_t i = 0; i < positions.size(); ++i) positions[i] = i;
  const FinalRows final(m.load(3, "auto"), m.kv, tokens, positions, 64);
  Replay all{positions, tokens, positions, sampling_of(1, 0, 1), true};
  const std::vector<double> together = final.replay(all);
  for (size_t i = 0; i < positions.size(); i += 37) {
    const auto row = static_cast<uint32_t>(i);
    const std::vector<double> one = final.replay({{row}, {tokens[i]}, {positions[i]}, all.sampling, true});
    CHECK(!memcmp(one.data(), together.data() + i * kReplayValues, sizeof(double) * kReplayValues), i);
  }
}

void what_is_wrong_is_said_and_work_can_be_stopped() {
  RandomModel m = random_model("overflowing", Dtype::f32, Dtype::f32, shape(64, 16, 16, 1, 1, 1, 8));
  for (size_t i = 0; i < 16; ++i) {
    const float huge = 3e38f;  // the head's sums overflow
    memcpy(m.tensors["lm_head.weight"].bytes.data() + 1 + i * 4, &huge, 4);
  }
  for (size_t i = 0; i < 16; ++i) {
    const float large = 100;
    memcpy(m.tensors["model.norm.weight"].bytes.data() + 1 + i * 4, &large, 4);
  }
  const FinalRows final(m.load(2, "auto"), m.kv, m.tokens(4), {0, 1, 2, 3}, 64);
  const Replay claimed{{0, 1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4}, sampling_of(0, 0, 1), false};
  CHECK(error_of([&] { final.replay(claimed); }) == "MODEL_NON_FINITE logits");
  Replay surprise = claimed;
  surprise.sampling.reset();
  surprise.surprise = true;
  CHECK(error_of([&] { final.replay(surprise); }) == "MODEL_NON_FINITE logits");
  CHECK(final.replay({{}, {}, {}, std::nullopt, true}).empty());

  std::atomic<bool> stopped{true};
  const auto ops = final.model->backend->ops(stopped);
  std::vector<double> out(4 * kReplayValues);
  CHECK(error_of([&] { replay(*final.model, *ops, final.rows, claimed, stopped, out.data()); }) == "ABORTED");
}

}  // namespace

int main() {
  RUN(replay_is_the_sampler_on_the_logits_of_decoding);
  RUN(chunks_change_nothing);
  RUN(what_is_wrong_is_said_and_work_can_be_stopped);
  return result();
}
