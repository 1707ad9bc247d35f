// Several sequences in one pass, which may continue one another, held against a pass over each one alone.
#pragma once
#include "../core/prefill.h"
#include "random_model.h"

namespace poc::test {

struct Packed {
  std::vector<uint32_t> tokens;  // of the whole sequence
  SampleRequest samples;
  PassResult full;  // what the sequence gives alone
  size_t parent = kNoParent, shared = 0;
};

struct Drop {
  size_t after_layer, part;
};

inline size_t page_slots(const Model& model, Dtype kv) { return KvCache(model, kv, 1, 1).layer(0).page_slots(); }

inline std::vector<Part> parts_of(const std::vector<Packed>& sequences) {
  std::vector<Part> parts;
  for (const Packed& one : sequences) {
    const std::vector<uint32_t> own(one.tokens.begin() + static_cast<long>(one.shared), one.tokens.end());
    parts.push_back({own, one.samples, one.shared, 0, Wanted::samples, one.parent});
  }
  return parts;
}

// Samples of one layer, as the pass hands them over, are those of the sequences that are not dropped.
inline void hold_layer(const LayerSamples& got, const std::vector<Packed>& sequences, const std::vector<bool>& dropped,
                       const std::string& what) {
  const PassResult& some = sequences[0].full;
  const bool final = got.layer == some.k.size();
  const size_t row = final ? some.hidden_bytes : some.row_bytes, v_row = final ? 0 : row;
  std::vector<uint8_t> k(got.places.size() * row + 1, 0xa5), v(got.places.size() * v_row + 1, 0xa5);
  got.copy(k.data(), v.data());
  CHECK(got.rows == nullptr || (got.k_bytes == row && got.v_bytes == v_row), what);
  size_t at = 0;
  for (size_t part = 0; part < sequences.size(); ++part) {
    const Packed& one = sequences[part];
    for (size_t i = 0; i < one.samples.layers.size(); ++i) {
      if (one.samples.layers[i] != got.layer) continue;
      for (const uint32_t position : one.samples.positions[i]) {
        const std::string where = text(what, " part ", part, " layer ", got.layer, " position ", position);
        CHECK(at < got.places.size(), where);
        const uint8_t* expected = (final ? one.full.hidden : one.full.k[got.layer]).data() + position * row;
        if (!dropped[part]) {
          CHECK(!memcmp(k.data() + at * row, expected, row), "k ", where);
          if (!final)
            CHECK(!memcmp(v.data() + at * row, one.full.v[got.layer].data() + position * row, row), "v ", where);
        }
        ++at;
      }
    }
  }
  CHECK(at == got.places.size() && (got.rows != nullptr) == (at > 0), what, " ", at, " of ", got.places.size());
  CHECK(k.back() == 0xa5 && v.back() == 0xa5, what);
}

// Runs the cone of some sequences over a cache of one layer, as verification does, and compares the samples.
inline void hold_packed(const Model& model, Dtype kv, const std::vector<Packed>& sequences, size_t chunk,
                        const std::string& what, const std::vector<Drop>& drops = {}) {
  const std::atomic<bool> never{false};
  std::vector<Part> parts = parts_of(sequences);
  KvCache cache(model, kv, lay_out(&parts, page_slots(model, kv)), 1);
  const auto ops = model.backend->ops(never);
  Prefill pass(model, *ops, cache, parts, chunk, never);
  std::vector<bool> dropped(parts.size(), false);
  size_t visited = 0, deepest = 0;
  for (const Packed& one : sequences)
    if (!one.samples.layers.empty()) deepest = std::max<size_t>(deepest, one.samples.layers.back());
  // As many layers are queued as verification queues before it looks at the first.
  std::vector<std::pair<LayerSamples, std::vector<bool>>> queued;
  const auto look = [&](size_t left) {
    for (; queued.size() > left; queued.erase(queued.begin()))
      hold_layer(queued.front().first, sequences, queued.front().second, what);
  };
  while (pass.next()) {
    queued.emplace_back(pass.take_samples(), dropped);
    CHECK(queued.back().first.layer == visited, what);
    look(ops->layers_ahead());
    for (const Drop& drop : drops)
      if (drop.after_layer == visited) pass.drop({drop.part}), dropped[drop.part] = true;
    ++visited;
  }
  look(0);
  CHECK(visited == deepest + 1, what);
  CHECK(!pass.next(), what);
}

inline SampleRequest random_request(Random& random, uint32_t num_layers, uint32_t num_positions) {
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

// A sequence that begins as `parent` does, and shares that: `shared` positions, then `own` tokens of its own.
struct Branch {
  size_t parent, shared, own;
};

// Sequences as the branches say, with random samples everywhere; `alone` has the model that each runs on alone.
inline std::vector<Packed> branched(const RandomModel& m, std::shared_ptr<const Model> alone, Random& random,
                                    const std::vector<Branch>& branches) {
  std::vector<Packed> sequences;
  const auto num_layers = static_cast<uint32_t>(m.config.num_layers + random.below(2));  // with the virtual one, or not
  for (const Branch& branch : branches) {
    Packed one;
    one.parent = branch.parent, one.shared = branch.shared;
    if (branch.parent != kNoParent) {
      const auto& before = sequences[branch.parent].tokens;
      one.tokens.assign(before.begin(), before.begin() + static_cast<long>(branch.shared));
    }
    for (size_t i = 0; i < branch.own; ++i)
      one.tokens.push_back(static_cast<uint32_t>(random.below(m.config.vocab_size)));
    one.full = whole_pass(alone, m.kv, one.tokens, 64);
    one.samples = random_request(random, num_layers, static_cast<uint32_t>(one.tokens.size()));
    sequences.push_back(std::move(one));
  }
  return sequences;
}

// Trees of every kind, in units of `page` positions: 16 with one prefix, two groups, sequences inside one another,
// a chain of parents, one that is all shared.
inline std::vector<std::vector<Branch>> trees(size_t page, bool quick) {
  std::vector<Branch> star{{kNoParent, 0, 2 * page + 9}};
  for (size_t i = 1; i < (quick ? 4 : 16); ++i) star.push_back({0, i % 3 == 0 ? page : 2 * page, 1 + i * 5 % 23});
  return {star,
          {{kNoParent, 0, page + 5},
           {kNoParent, 0, 2 * page},
           {0, page, 3},
           {1, 2 * page, 1},
           {0, page, 0},
           {1, page, page + 1}},
          {{kNoParent, 0, 3 * page + 1}, {0, 2 * page, 0}, {0, page, 7}, {1, 2 * page, 5}, {3, page, 2}},
          {{kNoParent, 0, page}, {0, page, page}, {1, 2 * page, page + 3}, {2, 3 * page, 4}, {kNoParent, 0, 1}}};
}

}  // namespace poc::test
