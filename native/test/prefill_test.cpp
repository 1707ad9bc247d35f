// The layer loop: decoding against one call, sampled cones against full passes, and what a failed or
// cancelled pass leaves behind.
#include "../core/prefill.h"

#include <thread>

#include "../core/sequence.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};

// Appends tokens in calls of the given sizes (the last one repeats) and returns all that is left behind.
PassResult in_calls(std::shared_ptr<const Model> model, Dtype kv, const std::vector<uint32_t>& tokens,
                    const std::vector<size_t>& sizes, size_t chunk) {
  Sequence sequence(model, kv, tokens.size() + 5, chunk);
  std::vector<float> logits(model->config.vocab_size);
  for (size_t call = 0; sequence.length() < tokens.size(); ++call) {
    const size_t first = sequence.length(),
                 size = std::min(sizes[std::min(call, sizes.size() - 1)], tokens.size() - first);
    const auto begin = tokens.begin() + static_cast<long>(first);
    sequence.append({begin, begin + static_cast<long>(size)}, {}, nullptr, nullptr, logits.data(), never);
    CHECK(sequence.length() == first + size);
  }
  return contents(sequence, kv, logits);
}

void decoding_is_the_same_as_one_call() {
  for (const RandomModel& m : random_models()) {
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 12 : 70);
    for (const std::string& simd : cpu::available_simd()) {
      const auto model = m.load(2, simd);
      const PassResult expected = whole_pass(model, m.kv, tokens, 64);
      const std::vector<std::vector<size_t>> ways{{1}, {33, 1}, {5, 1, 2, 31, 3}, {tokens.size()}};
      for (const auto& sizes : ways) {
        const PassResult got = in_calls(model, m.kv, tokens, sizes, 16);
        CHECK(got == expected, m.name, " ", simd, ", first call of ", sizes[0], ": ", difference(expected, got));
      }
    }
  }
}

// What is sampled during the calls is what stands in the cache afterwards, in the order of the request.
void samples_of_each_call_are_the_rows_of_the_cache() {
  const RandomModel m = random_models()[0];
  const std::vector<uint32_t> tokens = m.tokens(40);
  const auto model = m.load(2, "auto");
  const PassResult expected = whole_pass(model, m.kv, tokens, 64);
  const size_t row = expected.row_bytes;
  Sequence sequence(model, m.kv, 40, 8);
  const SampleRequest first{{0, 2}, {{3, 7, 29}, {0, 28}}}, second{{1, 2}, {{30, 32, 39}, {31}}};
  for (const auto& [request, begin, end] : {std::tuple{&first, 0, 30}, std::tuple{&second, 30, 40}}) {
    size_t count = 0;
    for (const auto& positions : request->positions) count += positions.size();
    std::vector<uint8_t> k(count * row + 1, 0xa5), v = k;
    sequence.append({tokens.begin() + begin, tokens.begin() + end}, *request, k.data(), v.data(), nullptr, never);
    CHECK(k.back() == 0xa5 && v.back() == 0xa5);
    size_t at = 0;
    for (size_t i = 0; i < request->layers.size(); ++i)
      for (const uint32_t position : request->positions[i]) {
        const size_t layer = request->layers[i];
        CHECK(memcmp(k.data() + at, expected.k[layer].data() + position * row, row) == 0, layer, " ", position);
        CHECK(memcmp(v.data() + at, expected.v[layer].data() + position * row, row) == 0, layer, " ", position);
        at += row;
      }
    CHECK(at == count * row);
  }
}

// One sequence of a packed pass, and what a pass over it alone gives.
struct Packed {
  std::vector<uint32_t> tokens;
  SampleRequest samples;
  PassResult full;
};

// Runs the cone of some sequences over a cache of one layer, as verification does, and compares the samples.
void hold_cone(const RandomModel& m, std::shared_ptr<const Model> model, const std::vector<Packed>& sequences,
               size_t chunk) {
  KvView page = KvCache(*model, m.kv, 1, 1).layer(0);
  const size_t row = page.row_bytes(), align = std::min<size_t>(page.page_slots(), 256);
  std::vector<Part> parts;
  size_t slots = 0, deepest = 0;
  for (const Packed& one : sequences) {
    parts.push_back({one.tokens, one.samples, 0, slots, false});
    slots += (one.tokens.size() + align - 1) / align * align;
    deepest = std::max<size_t>(deepest, one.samples.layers.back());
  }
  KvCache cache(*model, m.kv, slots, 1);
  const auto ops = model->backend->ops(never);
  Prefill pass(*model, *ops, cache, parts, chunk, never);
  size_t visited = 0;
  while (pass.next()) {
    LayerSamples got = pass.take_samples();
    CHECK(got.layer == visited, m.name);
    const char* rows = got.rows ? static_cast<const char*>(got.rows->wait()) : nullptr;
    size_t at = 0;
    for (const Packed& one : sequences)
      for (size_t i = 0; i < one.samples.layers.size(); ++i) {
        if (one.samples.layers[i] != got.layer) continue;
        for (const uint32_t position : one.samples.positions[i]) {
          CHECK(at < got.num_rows, m.name);
          const std::string where = text(m.name, " layer ", got.layer, " position ", position);
          CHECK(!memcmp(rows + at * row, one.full.k[got.layer].data() + position * row, row), "k ", where);
          CHECK(!memcmp(rows + (got.num_rows + at) * row, one.full.v[got.layer].data() + position * row, row), "v ",
                where);
          ++at;
        }
      }
    CHECK(at == got.num_rows && (rows != nullptr) == (at > 0), m.name, " ", at, " of ", got.num_rows);
    ++visited;
  }
  CHECK(visited == deepest + 1, m.name);
  CHECK(!pass.next(), m.name);
}

SampleRequest random_request(Random& random, uint32_t num_layers, uint32_t num_positions) {
  SampleRequest request;
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    std::vector<uint32_t> positions;
    for (uint32_t position = 0; position < num_positions; ++position)
      if (random.below(6) == 0) positions.push_back(position);
    if (positions.empty() || random.below(3) == 0) continue;
    request.layers.push_back(layer);
    request.positions.push_back(positions);
  }
  if (request.layers.empty()) return {{0}, {{num_positions - 1}}};
  return request;
}

void cones_of_samples_give_the_rows_of_full_passes() {
  Random random(31);
  for (const RandomModel& m : random_models()) {
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 20 : 70);
    for (const std::string& simd : cpu::available_simd()) {
      const auto model = m.load(2, simd);
      const PassResult full = whole_pass(model, m.kv, tokens, 64);
      const auto last = static_cast<uint32_t>(tokens.size() - 1),
                 deepest = static_cast<uint32_t>(m.config.num_layers - 1);
      const auto hold = [&](const SampleRequest& request, size_t chunk) {
        hold_cone(m, model, {{tokens, request, full}}, chunk);
      };
      hold({{0}, {{0}}}, 64);
      hold({{0}, {{last}}}, 64);
      hold({{deepest}, {{1, last}}}, 7);
      hold({{0, deepest}, {{last}, {0}}}, 1);  // deeper layers need one row
      for (int round = 0; round < (quick() ? 2 : 8); ++round)
        hold(random_request(random, deepest + 1, last + 1), 1 + random.below(80));
    }
  }
}

void packed_sequences_give_the_rows_they_give_alone() {
  Random random(32);
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    for (int round = 0; round < (quick() ? 1 : 6); ++round) {
      std::vector<Packed> sequences;
      for (size_t i = 0; i < 2 + random.below(4); ++i) {
        Packed one{m.tokens(1 + random.below(60)), {}, {}};
        one.tokens[0] = static_cast<uint32_t>(i);
        one.full = whole_pass(model, m.kv, one.tokens, 64);
        one.samples = random_request(random, static_cast<uint32_t>(m.config.num_layers),
                                     static_cast<uint32_t>(one.tokens.size()));
        sequences.push_back(std::move(one));
      }
      hold_cone(m, model, sequences, 1 + random.below(90));
    }
  }
}

void streamed_layers_give_the_bits_of_resident_ones() {
  for (const RandomModel& m : random_models()) {
    const std::vector<uint32_t> tokens = m.tokens(25);
    const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 7);
    size_t needed = 0;  // the least budget, as the error says
    try {
      m.load_on(cpu::make_backend(2, "auto"), 1);
    } catch (const Error& error) {
      CHECK(error.where == "weightBudgetBytes" && std::string(error.code) == "INVALID_ARGUMENT", error.what());
      needed = std::stoull(error.expected.substr(error.expected.rfind(' ')));
    }
    CHECK(error_of([&] { m.load_on(cpu::make_backend(2, "auto"), needed - 1); }) ==
          "INVALID_ARGUMENT weightBudgetBytes");
    const auto model = m.load_on(cpu::make_backend(2, "auto"), needed);
    CHECK(model->weights.streamed() == (m.config.num_layers > 2), m.name);
    const PassResult got = whole_pass(model, m.kv, tokens, 7);
    CHECK(got == expected, m.name, ": ", difference(expected, got));
    std::atomic<bool> cancelled{true};
    Sequence sequence(model, m.kv, 30, 7);
    CHECK(error_of([&] { sequence.append(tokens, {}, nullptr, nullptr, nullptr, cancelled); }) == "ABORTED");
  }
}

void a_cone_counts_the_rows_that_deeper_samples_need() {
  const auto rows = [](const Cone& cone, size_t layer) {
    std::vector<std::pair<size_t, size_t>> out;
    for (const Span& span : cone.rows(layer)) out.emplace_back(span.first_row, span.rows);
    return out;
  };
  using Rows = std::vector<std::pair<size_t, size_t>>;
  const std::vector<uint32_t> ten(10);
  const Part sampled{ten, {{0, 2, 3}, {{9}, {1, 6}, {0, 4}}}, 0, 0, false};
  const Cone cone({sampled}, 8);
  CHECK(cone.num_layers() == 4 && cone.num_rows() == 10);
  CHECK(rows(cone, 0) == Rows({{0, 10}}) && rows(cone, 1) == Rows({{0, 7}}) && rows(cone, 2) == Rows({{0, 7}}));
  CHECK(rows(cone, 3) == Rows({{0, 5}}) && rows(cone, 4).empty());
  CHECK(cone.only_samples(3) && !cone.only_samples(2));
  const Cone full({{ten, {}, 5, 0, true}}, 3);
  CHECK(rows(full, 0) == Rows({{0, 10}}) && rows(full, 3) == Rows({{0, 10}}) && !full.only_samples(2));
  // Behind one another: the first ends at layer 1, so that the rows of the second stand alone below it.
  const Cone two({{ten, {{1}, {{9}}}, 0, 0, false}, {ten, {{3}, {{2, 5}}}, 0, 64, false}}, 8);
  CHECK(rows(two, 1) == Rows({{0, 16}}) && rows(two, 2) == Rows({{10, 6}}) && rows(two, 4).empty());
  CHECK(two.sampled_rows(3) == (std::vector<uint32_t>{12, 15}));
  const std::vector<Segment> segments = two.segments(8, 5);
  CHECK(segments.size() == 2 && segments[0].rows == 2 && segments[0].first_position == 8);
  CHECK(segments[1].first_row == 2 && segments[1].rows == 3 && segments[1].first_position == 0 &&
        segments[1].first_slot == 64);
}

void too_many_tokens_are_refused_and_change_nothing() {
  const RandomModel m = random_models()[2];
  const std::vector<uint32_t> tokens = m.tokens(20);
  const auto model = m.load(1, "auto");
  const PassResult expected = whole_pass(model, m.kv, tokens, 64);
  Sequence sequence(model, m.kv, 20, 8);
  std::vector<float> logits(m.config.vocab_size);
  const auto append = [&](size_t first, size_t last) {
    sequence.append({tokens.begin() + static_cast<long>(first), tokens.begin() + static_cast<long>(last)}, {}, nullptr,
                    nullptr, logits.data(), never);
  };
  append(0, 15);
  CHECK(error_of([&] { append(0, 6); }) == "CONTEXT_OVERFLOW tokens");
  CHECK(error_of([&] { append(0, 0); }) == "CONTEXT_OVERFLOW tokens");
  CHECK(sequence.length() == 15);
  append(15, 20);
  const PassResult got = contents(sequence, m.kv, logits);
  CHECK(got == expected, difference(expected, got));
}

// Whenever the flag is set, the call either ends as if it had not been or throws and takes nothing with it.
void a_cancelled_pass_can_be_repeated() {
  const RandomModel m = quick() ? random_models()[0] : wide_model();
  const std::vector<uint32_t> tokens = m.tokens(64);
  const auto model = m.load(3, "auto");
  const PassResult expected = whole_pass(model, m.kv, tokens, 16);
  size_t times_cancelled = 0;
  for (int delay = 0; delay < 12; ++delay) {
    Sequence sequence(model, m.kv, 64, 16);
    std::vector<float> logits(m.config.vocab_size);
    sequence.append({tokens.begin(), tokens.begin() + 10}, {}, nullptr, nullptr, nullptr, never);
    std::atomic<bool> cancelled{delay == 0};
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay * 200));
      cancelled = true;
    });
    const std::vector<uint32_t> rest(tokens.begin() + 10, tokens.end());
    const std::string error = error_of([&] { sequence.append(rest, {}, nullptr, nullptr, logits.data(), cancelled); });
    other.join();
    CHECK(error.empty() || error == "ABORTED", error);
    CHECK(delay > 0 || error == "ABORTED");
    CHECK(sequence.length() == (error.empty() ? 64u : 10u), delay);
    times_cancelled += !error.empty();
    if (!error.empty()) sequence.append(rest, {}, nullptr, nullptr, logits.data(), never);
    const PassResult got = contents(sequence, m.kv, logits);
    CHECK(got == expected, delay, ": ", difference(expected, got));
  }
  CHECK(times_cancelled > 0);
}

// One backend, so one pool, under several sequences at once.
void sequences_at_once_do_not_disturb_each_other() {
  const RandomModel m = random_models()[0];
  const auto model = m.load(3, "auto");
  const size_t count = quick() ? 2 : 4;
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<PassResult> expected, got(count);
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(m.tokens(30 + i));
    tokens.back()[0] = static_cast<uint32_t>(i);
    expected.push_back(whole_pass(model, m.kv, tokens.back(), 16));
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 3; ++round) got[i] = in_calls(model, m.kv, tokens[i], {20, 1}, 16);
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < count; ++i) CHECK(got[i] == expected[i], i, ": ", difference(expected[i], got[i]));
  CHECK(!(expected[0] == expected[1]));
}

void weights_of_another_shape_or_missing_are_refused_by_name() {
  const auto error_with = [](const char* tensor, size_t rows, size_t cols) {
    RandomModel m = random_models()[2];
    if (rows == 0)
      m.tensors.erase(tensor);
    else
      m.add(tensor, rows, cols, 1);
    return error_of([&] { m.load(2, "auto"); });
  };
  for (const char* tensor :
       {"model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.2.self_attn.k_proj.bias",
        "model.layers.0.mlp.down_proj.weight", "model.layers.2.post_attention_layernorm.weight", "model.norm.weight"}) {
    const std::string expected = std::string("MODEL_MALFORMED ") + tensor;
    CHECK(error_with(tensor, 0, 0) == expected, error_with(tensor, 0, 0));
    CHECK(error_with(tensor, 48, 47) == expected, error_with(tensor, 48, 47));
    CHECK(error_with(tensor, 1, 49) == expected, error_with(tensor, 1, 49));
  }
}

void loading_counts_bytes_and_can_be_cancelled() {
  const RandomModel m = random_models()[3];
  size_t bytes = 0;
  for (const auto& [name, stored] : m.tensors) bytes += stored.bytes.size() - stored.offset;
  const auto backend = cpu::make_backend(2, "auto");
  std::atomic<size_t> loaded{0};
  load_weights(*backend, m.config, m.source(), never, loaded);
  CHECK(loaded == bytes, loaded.load(), " of ", bytes);
  std::atomic<bool> cancelled{false};
  std::atomic<size_t> before{0};
  size_t asked = 0;
  const TensorSource source = [&](const std::string& name) {
    if (++asked == 5) cancelled = true;
    return m.source()(name);
  };
  CHECK(error_of([&] { load_weights(*backend, m.config, source, cancelled, before); }) == "ABORTED");
  CHECK(asked == 5 && before < bytes);
}

}  // namespace

int main() {
  RUN(decoding_is_the_same_as_one_call);
  RUN(samples_of_each_call_are_the_rows_of_the_cache);
  RUN(cones_of_samples_give_the_rows_of_full_passes);
  RUN(packed_sequences_give_the_rows_they_give_alone);
  RUN(streamed_layers_give_the_bits_of_resident_ones);
  RUN(a_cone_counts_the_rows_that_deeper_samples_need);
  RUN(too_many_tokens_are_refused_and_change_nothing);
  RUN(a_cancelled_pass_can_be_repeated);
  RUN(sequences_at_once_do_not_disturb_each_other);
  RUN(weights_of_another_shape_or_missing_are_refused_by_name);
  RUN(loading_counts_bytes_and_can_be_cancelled);
  return result();
}
