// The layer loop: decoding against one call, sampled cones against full passes, and what a failed or
// cancelled pass leaves behind.
#include "../core/prefill.h"

#include <cmath>
#include <thread>

#include "../core/sequence.h"
#include "packed_pass.h"

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

void cones_of_samples_give_the_rows_of_full_passes() {
  Random random(31);
  for (const RandomModel& m : random_models()) {
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 20 : 70);
    for (const std::string& simd : cpu::available_simd()) {
      const auto model = m.load(2, simd);
      const PassResult full = whole_pass(model, m.kv, tokens, 64);
      const auto last = static_cast<uint32_t>(tokens.size() - 1), deepest = static_cast<uint32_t>(m.config.num_layers);
      const auto hold = [&](const SampleRequest& request, size_t chunk) {
        hold_packed(*model, m.kv, {{tokens, request, full}}, chunk, m.name);
      };
      hold({{0}, {{0}}}, 64);
      hold({{0}, {{last}}}, 64);
      hold({{deepest}, {{1, last}}}, 7);
      hold({{0, deepest}, {{last}, {0}}}, 1);  // deeper layers need one row
      hold({{deepest - 1, deepest}, {{last}, {last / 2}}}, 9);
      hold({{deepest - 1, deepest}, {{0}, {0, last}}}, 64);
      for (int round = 0; round < (quick() ? 2 : 8); ++round)
        hold(random_request(random, deepest + 1, last + 1), 1 + random.below(80));
    }
  }
}

// The virtual layer's rows, times the head's rows by hand, are the logits of decoding.
void the_virtual_layer_is_what_the_head_is_given() {
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const Config& c = m.config;
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 8 : 30);
    const PassResult full = whole_pass(model, m.kv, tokens, 7);
    const reference::Array head = m.values(c.tied_head ? "model.embed_tokens.weight" : "lm_head.weight");
    Sequence sequence(model, m.kv, tokens.size(), 8);
    std::vector<float> logits(c.vocab_size);
    for (size_t position = 0; position < tokens.size(); ++position) {
      sequence.append({tokens[position]}, {}, nullptr, nullptr, logits.data(), never);
      std::vector<float> hidden(c.hidden_size);
      memcpy(hidden.data(), full.hidden.data() + position * full.hidden_bytes, full.hidden_bytes);
      for (size_t id = 0; id < c.vocab_size; ++id) {
        float sum = 0;
        for (size_t i = 0; i < c.hidden_size; ++i)
          sum = std::fma(hidden[i], static_cast<float>(head.data[id * c.hidden_size + i]), sum);
        CHECK(same(sum, logits[id]), m.name, " position ", position, " id ", id);
      }
      // The sequence keeps the last one.
      const auto last = static_cast<uint32_t>(c.num_layers), at = static_cast<uint32_t>(position);
      std::vector<uint8_t> k(full.row_bytes + full.hidden_bytes + 1, 0xa5), v(full.row_bytes + 1, 0xa5);
      CHECK(sequence.has_final(position) && !sequence.has_final(position + 1));
      sequence.extract({0, last}, at, k.data(), v.data());
      CHECK(!memcmp(k.data(), full.k[0].data() + position * full.row_bytes, full.row_bytes), m.name);
      CHECK(!memcmp(v.data(), full.v[0].data() + position * full.row_bytes, full.row_bytes), m.name);
      CHECK(!memcmp(k.data() + full.row_bytes, hidden.data(), full.hidden_bytes) && k.back() == 0xa5, m.name);
      CHECK(v.back() == 0xa5);
    }
    sequence = Sequence(model, m.kv, 4, 8);
    sequence.append({1, 2}, {}, nullptr, nullptr, nullptr, never);
    CHECK(!sequence.has_final(1));
  }
}

void packed_sequences_give_the_rows_they_give_alone() {
  Random random(32);
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    for (int round = 0; round < (quick() ? 1 : 6); ++round) {
      std::vector<Branch> branches;
      for (size_t i = 0; i < 2 + random.below(4); ++i) branches.push_back({kNoParent, 0, 1 + random.below(60)});
      hold_packed(*model, m.kv, branched(m, model, random, branches), 1 + random.below(90), m.name);
    }
  }
}

void shared_prefixes_give_the_rows_they_give_alone() {
  Random random(33);
  size_t number = 0;
  for (const RandomModel& m : random_models()) {
    const auto alone = m.load(2, "auto");
    for (const auto& branches : trees(page_slots(*alone, m.kv), quick())) {
      const std::vector<Packed> sequences = branched(m, alone, random, branches);
      for (const std::string& simd : cpu::available_simd()) {
        const auto model = m.load(2, simd);
        const size_t chunks[] = {1, 7, 64, 1 << 20};
        for (const size_t chunk : {chunks[number % 4], chunks[(number + 1) % 4]})
          hold_packed(*model, m.kv, sequences, chunk, text(m.name, " ", simd, " by ", chunk));
        ++number;
      }
    }
  }
}

// What is sampled where: in the prefix alone, behind it alone, at one place by all, and by a part that needs nothing.
void samples_of_shared_rows_go_to_every_part() {
  Random random(34);
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const auto page = static_cast<uint32_t>(page_slots(*model, m.kv));
    const auto deepest = static_cast<uint32_t>(m.config.num_layers - 1);
    std::vector<Packed> sequences =
        branched(m, model, random, {{kNoParent, 0, page + 3}, {0, page, 5}, {0, page, 9}, {1, page, 0}, {0, page, 2}});
    sequences[0].samples = {{0}, {{2}}};
    sequences[1].samples = {{0, deepest}, {{2, page - 1}, {page + 4}}};
    sequences[2].samples = {{0, deepest}, {{0, 2, page - 1, page + 8}, {2, page}}};
    sequences[3].samples = {{0, deepest}, {{page - 1}, {2}}};
    sequences[4].samples = {};
    for (const size_t chunk : {1, 7, 64, 4096}) hold_packed(*model, m.kv, sequences, chunk, m.name);
    // Nobody samples the deepest layer behind the prefix.
    sequences[1].samples = sequences[2].samples = {{deepest}, {{page - 1}}};
    hold_packed(*model, m.kv, sequences, 64, m.name);
  }
}

void dropped_parts_change_no_other() {
  Random random(35);
  const RandomModel m = random_model("deep", Dtype::bf16, Dtype::bf16, shape(97, 64, 112, 6, 4, 2, 16));
  const auto model = m.load(2, "auto");
  for (const auto& branches : trees(page_slots(*model, m.kv), quick())) {
    std::vector<Packed> sequences = branched(m, model, random, branches);
    for (size_t first = 0; first < sequences.size(); ++first) {
      const Drop drops[] = {{0, first}, {1 + random.below(4), (first + 1) % sequences.size()}};
      hold_packed(*model, m.kv, sequences, 40, text("drop ", first), {drops[0], drops[1]});
    }
    std::vector<Drop> all;
    for (size_t part = 0; part < sequences.size(); ++part) all.push_back({part % 3, part});
    hold_packed(*model, m.kv, sequences, 40, "drop all", all);
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

using Rows = std::vector<std::pair<size_t, size_t>>;

Rows rows_at(const Cone& cone, size_t layer) {
  Rows out;
  for (const Span& span : cone.rows(layer)) out.emplace_back(span.first_row, span.rows);
  return out;
}

void a_cone_counts_the_rows_that_deeper_samples_need() {
  const std::vector<uint32_t> ten(10);
  const Part sampled{ten, {{0, 2, 3}, {{9}, {1, 6}, {0, 4}}}, 0, 0, Wanted::samples};
  const Cone cone({sampled}, 8);
  CHECK(cone.num_layers() == 4 && cone.num_rows() == 10);
  CHECK(rows_at(cone, 0) == Rows({{0, 10}}) && rows_at(cone, 1) == Rows({{0, 7}}) &&
        rows_at(cone, 2) == Rows({{0, 7}}));
  CHECK(cone.only_samples(3) && !cone.only_samples(2));
  CHECK(rows_at(cone, 3) == Rows({{0, 2}}) && rows_at(cone, 4).empty(), "at the end, places of samples");
  CHECK(cone.sampled_rows(3) == (std::vector<uint32_t>{0, 4}));
  // A sample behind all that deeper ones attend to: alone, unless few rows lie between.
  const std::vector<uint32_t> many(100);
  CHECK(rows_at(Cone({{many, {{1, 2}, {{3, 50, 99}, {7}}}}}, 8), 1) == Rows({{0, 8}, {50, 1}, {99, 1}}));
  CHECK(rows_at(Cone({{many, {{1, 2}, {{24, 99}, {7}}}}}, 8), 1) == Rows({{0, 25}, {99, 1}}));
  const Cone full({{ten, {{2}, {{6}}}, 5, 0, Wanted::cache}}, 3);
  CHECK(rows_at(full, 0) == Rows({{0, 10}}) && rows_at(full, 2) == Rows({{0, 10}}) && rows_at(full, 3).empty());
  CHECK(!full.only_samples(2));
  const Cone next({{ten, {}, 5, 0, Wanted::hidden}, {ten, {{1}, {{3}}}, 0, 64, Wanted::samples}}, 3);
  CHECK(rows_at(next, 2) == Rows({{0, 10}}) && rows_at(next, 3) == Rows({{9, 1}}) && !next.only_samples(2));
  const Segment last = next.segments(3, 9, 1).at(0);
  CHECK(last.first_row == 0 && last.rows == 1 && last.first_position == 14);
  // Behind one another: the first ends at layer 1, so that the rows of the second stand alone below it.
  const Cone two({{ten, {{1}, {{9}}}, 0, 0, Wanted::samples}, {ten, {{3}, {{2, 5}}}, 0, 64, Wanted::samples}}, 8);
  CHECK(rows_at(two, 0) == Rows({{0, 16}}) && rows_at(two, 1) == Rows({{9, 7}}) && rows_at(two, 2) == Rows({{10, 6}}));
  CHECK(two.sampled_rows(3) == (std::vector<uint32_t>{12, 15}) && rows_at(two, 3) == Rows({{0, 2}}));
  const std::vector<Segment> ends = two.segments(3, 0, 2);
  CHECK(ends.size() == 2 && ends[1].first_row == 1 && ends[1].rows == 1 && ends[1].first_position == 5);
  const std::vector<Segment> segments = two.segments(1, 8, 5);
  CHECK(segments.size() == 2 && segments[0].rows == 2 && segments[0].first_position == 8);
  CHECK(segments[1].first_row == 2 && segments[1].rows == 3 && segments[1].first_position == 0 &&
        segments[1].first_slot == 64);
}

void a_cone_needs_what_parts_share_as_deep_as_they_go() {
  const auto tokens = [](size_t count) { return std::vector<uint32_t>(count); };
  // 60 rows, and 8 more behind its first 32; each samples its own end, the second two layers deeper.
  std::vector<Part> parts{{tokens(60), {{1}, {{59}}}},
                          {tokens(8), {{0, 3}, {{5, 36}, {39}}}, 32, 0, Wanted::samples, 0}};
  CHECK(lay_out(&parts, 32) == 96 && parts[0].first_slot == 0 && parts[1].first_slot == 32);
  Cone cone(parts, 8);
  CHECK(cone.num_rows() == 68 && cone.num_layers() == 4);
  CHECK(rows_at(cone, 0) == Rows({{0, 68}}) && rows_at(cone, 1) == Rows({{0, 32}, {59, 9}}));
  CHECK(rows_at(cone, 2) == Rows({{0, 32}, {60, 8}}));
  CHECK(rows_at(cone, 3) == Rows({{0, 1}}) && cone.only_samples(3));  // nothing attends to the last layer's keys
  CHECK(cone.sampled_rows(0) == (std::vector<uint32_t>{5, 64}) && cone.sampled_rows(3) == std::vector<uint32_t>{67});
  const std::vector<Segment> segments = cone.segments(0, 58, 5);
  CHECK(segments.size() == 2 && segments[0].num_shared == 0 && segments[1].first_row == 2);
  CHECK(segments[1].first_position == 32 && segments[1].first_slot == 32 && segments[1].num_shared == 1);
  CHECK(segments[1].shared[0].end == 32 && segments[1].shared[0].first_slot == 0);
  cone.drop({1});
  CHECK(rows_at(cone, 0) == Rows({{0, 60}}) && rows_at(cone, 2).empty());
  Cone other(parts, 8);
  other.drop({0});
  CHECK(rows_at(other, 1) == Rows({{0, 32}, {60, 8}}));
  other.drop({0, 1});
  CHECK(rows_at(other, 1).empty());
  // One that is dropped still stands between two others.
  const SampleRequest deep{{3}, {{63}}}, deeper{{3}, {{71}}};
  Cone chain({{tokens(32), {}},
              {tokens(32), deep, 32, 0, Wanted::samples, 0},
              {tokens(8), deeper, 64, 0, Wanted::samples, 1}},
             8);
  chain.drop({1});
  CHECK(rows_at(chain, 2) == Rows({{0, 72}}) && rows_at(chain, 3) == Rows({{1, 1}}));
  // Sixteen rows between two parts are computed rather than going through the weights twice; seventeen are not.
  const Part before{tokens(20), {{2}, {{3}}}}, behind{tokens(5), {{2}, {{4}}}};
  CHECK(rows_at(Cone({before, behind}, 3), 1) == Rows({{0, 25}}));
  CHECK(rows_at(Cone({{tokens(21), before.samples}, behind}, 3), 1) == Rows({{0, 4}, {21, 5}}));
  const Cone ends({before, behind}, 3);
  CHECK(ends.segments(2, 0, 2).size() == 2, "rows of two parts are two segments");
}

void a_cone_needs_few_rows_behind_the_last_layer() {
  const std::vector<uint32_t> many(100);
  // Sampled at the virtual layer alone: K and V of all rows up to the last one, then what is sampled, densely.
  Cone cone({{many, {{3}, {{4, 20, 60, 61, 78, 95}}}}}, 3);
  CHECK(cone.virtual_layer() && cone.num_layers() == 3 && !cone.only_samples(2));
  CHECK(rows_at(cone, 0) == Rows({{0, 96}}) && rows_at(cone, 2) == Rows({{0, 96}}));
  CHECK(cone.only_samples(3) && rows_at(cone, 3) == Rows({{0, 6}}));
  const std::vector<Segment> runs = cone.segments(3, 1, 4);
  CHECK(runs.size() == 3 && runs[0].rows == 1 && runs[0].first_position == 20 && runs[2].first_position == 78);
  CHECK(runs[1].first_row == 1 && runs[1].rows == 2 && runs[1].first_position == 60);
  CHECK(cone.sampled_rows(3) == (std::vector<uint32_t>{4, 20, 60, 61, 78, 95}));
  cone.drop({0});
  CHECK(rows_at(cone, 0).empty() && rows_at(cone, 3).empty() && cone.virtual_layer());
  // With the last layer sampled too, and behind 17 rows.
  const Cone both({{many, {{2, 3}, {{97}, {2, 20}}}}}, 3);
  CHECK(rows_at(both, 2) == Rows({{0, 21}, {97, 1}}) && rows_at(both, 3) == Rows({{0, 2}}));
  const Cone last({{many, {{2}, {{97}}}}}, 3);
  CHECK(!last.virtual_layer() && last.only_samples(2));
  // A position that is shared belongs to its owner's row, which needs nothing behind it.
  const std::vector<uint32_t> few(8);
  std::vector<Part> parts{{std::vector<uint32_t>(64), {{0}, {{1}}}},
                          {few, {{3}, {{10, 37}}}, 32, 0, Wanted::samples, 0},
                          {few, {{3}, {{10, 33}}}, 32, 0, Wanted::samples, 0}};
  lay_out(&parts, 32);
  Cone shared(parts, 3);
  CHECK(rows_at(shared, 2) == Rows({{0, 32}, {64, 10}}));
  CHECK(rows_at(shared, 3) == Rows({{0, 3}}));
  CHECK(shared.sampled_rows(3) == (std::vector<uint32_t>{10, 69, 73}));
  CHECK(shared.sample_places(3) == (std::vector<uint32_t>{0, 1, 0, 2}));
  shared.drop({1});
  CHECK(rows_at(shared, 2) == Rows({{0, 32}, {72, 2}}) && rows_at(shared, 3) == Rows({{0, 3}}),
        "what is dropped between two others is joined to them");
  // The last row for the next token, beside rows that are sampled.
  const Cone next({{many, {{3}, {{1}}}, 0, 0, Wanted::hidden}}, 3);
  CHECK(rows_at(next, 2) == Rows({{0, 100}}) && rows_at(next, 3) == Rows({{1, 1}, {99, 1}}));
}

void runs_of_a_chain_of_parents_are_joined() {
  const auto tokens = [](size_t count) { return std::vector<uint32_t>(count); };
  const SampleRequest end{{2}, {{99}}};
  std::vector<Part> parts{{tokens(64), {}},
                          {tokens(64), {}, 32, 0, Wanted::samples, 0},
                          {tokens(4), end, 96, 0, Wanted::samples, 1},
                          {tokens(36), end, 64, 0, Wanted::samples, 2},
                          {tokens(68), end, 32, 0, Wanted::samples, 3}};
  CHECK(lay_out(&parts, 32) == 64 + 64 + 32 + 64 + 96);
  const Cone cone(parts, 3);
  const std::vector<Segment> segments = cone.segments(0, 0, cone.num_rows());
  const auto runs = [&](size_t part) {
    Rows out;
    for (size_t i = 0; i < segments[part].num_shared; ++i)
      out.emplace_back(segments[part].shared[i].end, segments[part].shared[i].first_slot);
    return out;
  };
  CHECK(runs(0).empty() && runs(1) == Rows({{32, 0}}) && runs(2) == Rows({{32, 0}, {96, 32}}));
  CHECK(runs(3) == Rows({{32, 0}, {64, 32}}) && runs(4) == Rows({{32, 0}}));
  CHECK(rows_at(cone, 1) == Rows({{0, 32}, {64, 64 + 4 + 36 + 68}}));
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
  RUN(the_virtual_layer_is_what_the_head_is_given);
  RUN(packed_sequences_give_the_rows_they_give_alone);
  RUN(shared_prefixes_give_the_rows_they_give_alone);
  RUN(samples_of_shared_rows_go_to_every_part);
  RUN(dropped_parts_change_no_other);
  RUN(streamed_layers_give_the_bits_of_resident_ones);
  RUN(a_cone_counts_the_rows_that_deeper_samples_need);
  RUN(a_cone_needs_what_parts_share_as_deep_as_they_go);
  RUN(a_cone_needs_few_rows_behind_the_last_layer);
  RUN(runs_of_a_chain_of_parents_are_joined);
  RUN(too_many_tokens_are_refused_and_change_nothing);
  RUN(a_cancelled_pass_can_be_repeated);
  RUN(sequences_at_once_do_not_disturb_each_other);
  RUN(weights_of_another_shape_or_missing_are_refused_by_name);
  RUN(loading_counts_bytes_and_can_be_cancelled);
  return result();
}
