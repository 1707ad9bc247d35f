// Leaf digests of a sequence against what extraction gives, hashed here, and the tree against its definition.
#include "../core/leaves.h"

#include <thread>

#include "../core/sha256.h"
#include "packed_pass.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};
using Bytes = std::vector<uint8_t>;

// H of the formats: SHA-256 over a tag, its zero byte, and the parts, as one piece.
Bytes tagged_hash(const std::string& use, const std::vector<Bytes>& parts) {
  const std::string tag = "proof-of-cache/v1/" + use;
  Bytes input(tag.begin(), tag.end());
  input.push_back(0);
  for (const Bytes& part : parts) input.insert(input.end(), part.begin(), part.end());
  Bytes out(kDigestBytes);
  Sha256(sha256_codes().back()).update(input.data(), input.size()).finish(out.data());
  return out;
}

Bytes le32(uint32_t value) {
  return {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value >> 16),
          static_cast<uint8_t>(value >> 24)};
}

Bytes slice(const Bytes& bytes, size_t first, size_t count) {
  return Bytes(bytes.begin() + static_cast<long>(first), bytes.begin() + static_cast<long>(first + count));
}

// Of a whole sequence, by (position, layer), from K, V and hidden states of a pass without leaves.
Bytes expected_leaves(const PassResult& pass, size_t num_positions) {
  Bytes out;
  for (uint32_t position = 0; position < num_positions; ++position)
    for (uint32_t layer = 0; layer <= pass.k.size(); ++layer) {
      const bool final = layer == pass.k.size();
      const size_t row = final ? pass.hidden_bytes : pass.row_bytes;
      const Bytes k = slice(final ? pass.hidden : pass.k[layer], position * row, row);
      const Bytes v = final ? Bytes() : slice(pass.v[layer], position * row, row);
      const Bytes leaf = tagged_hash("leaf", {le32(layer), le32(position), k, v});
      out.insert(out.end(), leaf.begin(), leaf.end());
    }
  return out;
}

void leaves_of_a_sequence_are_hashes_of_what_is_extracted() {
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const size_t length = quick() ? 9 : 70, per_token = (m.config.num_layers + 1) * kDigestBytes;
    const std::vector<uint32_t> tokens = m.tokens(length);
    const PassResult pass = whole_pass(model, m.kv, tokens, 64);
    const Bytes expected = expected_leaves(pass, length);
    for (const std::vector<size_t>& sizes : {std::vector<size_t>{length}, {length - 5, 1, 1, 1, 2}}) {
      Sequence sequence(model, m.kv, length, 16);
      Bytes leaves(length * per_token + 1, 0xa5);
      std::vector<float> logits(m.config.vocab_size);
      size_t first = 0;
      for (const size_t size : sizes) {
        const auto begin = tokens.begin() + static_cast<long>(first);
        sequence.append({begin, begin + static_cast<long>(size)}, {}, nullptr, nullptr,
                        size > 1 ? nullptr : logits.data(), never, leaves.data() + first * per_token);
        first += size;
      }
      CHECK(leaves.back() == 0xa5);
      leaves.pop_back();
      CHECK(leaves == expected, m.name, " in ", sizes.size(), " calls");
      PassResult kept = contents(sequence, m.kv, pass.logits);
      CHECK(kept == pass, difference(kept, pass));
    }
  }
}

// Samples and logits that are asked for in the same call are those of a call without leaves.
void samples_beside_leaves_are_the_same() {
  Random random(61);
  for (const RandomModel& m : random_models()) {
    const auto model = m.load(2, "auto");
    const std::vector<uint32_t> tokens = m.tokens(40);
    Bytes k(40 * 4 * 400), v = k, leaves(40 * (m.config.num_layers + 1) * kDigestBytes), other_k = k, other_v = v;
    std::vector<float> logits(m.config.vocab_size), other = logits;
    for (int round = 0; round < 4; ++round) {
      const SampleRequest request = random_request(random, static_cast<uint32_t>(m.config.num_layers + 1), 40);
      k.resize(m.config.num_layers * 40 * m.config.kv_size() * 4 + 40 * m.config.hidden_size * 4, 0xa5);
      v.assign(k.size(), 0xa5);
      k.assign(k.size(), 0xa5);
      other_k = k, other_v = v;
      Sequence with(model, m.kv, 40, 16), without(model, m.kv, 40, 16);
      with.append(tokens, request, k.data(), v.data(), logits.data(), never, leaves.data());
      without.append(tokens, request, other_k.data(), other_v.data(), other.data(), never);
      CHECK(k == other_k && v == other_v, m.name, " round ", round);
      CHECK(!memcmp(logits.data(), other.data(), logits.size() * sizeof(float)), m.name);
    }
  }
}

// The head of leaves first..last-1, as RFC 6962 defines it: the left side is the largest power of two below.
Bytes head_of(const Bytes& leaves, size_t first, size_t last) {
  if (last - first == 1) return slice(leaves, first * kDigestBytes, kDigestBytes);
  size_t left = 1;
  while (2 * left < last - first) left *= 2;
  return tagged_hash("node", {head_of(leaves, first, first + left), head_of(leaves, first + left, last)});
}

void the_tree_s_head_is_the_definition_s() {
  Random random(62);
  for (size_t count = 1; count <= (quick() ? 40u : 140u); ++count) {
    Bytes leaves(count * kDigestBytes);
    for (uint8_t& byte : leaves) byte = static_cast<uint8_t>(random.next());
    Bytes nodes(nodes_above(count) * kDigestBytes + 1, 0xa5);
    hash_tree(leaves.data(), count, 3, nodes.data(), never);
    CHECK(nodes.back() == 0xa5);
    nodes.pop_back();
    const Bytes head = count == 1 ? leaves : slice(nodes, nodes.size() - kDigestBytes, kDigestBytes);
    CHECK(head == head_of(leaves, 0, count), count);
    // Every node of every level covers a range of its own.
    size_t at = 0, size = count;
    for (size_t width = 2; size > 1; width *= 2) {
      size = (size + 1) / 2;
      for (size_t i = 0; i < size; ++i)
        CHECK(slice(nodes, (at + i) * kDigestBytes, kDigestBytes) ==
                  head_of(leaves, i * width, std::min(count, (i + 1) * width)),
              count, " ", width, " ", i);
      at += size;
    }
    CHECK(at == nodes_above(count), count);
  }
}

void threads_change_nothing_and_work_can_be_stopped() {
  const size_t count = 100001;
  Bytes leaves(count * kDigestBytes);
  Random random(63);
  for (uint8_t& byte : leaves) byte = static_cast<uint8_t>(random.next());
  Bytes one(nodes_above(count) * kDigestBytes), many = one;
  hash_tree(leaves.data(), count, 1, one.data(), never);
  hash_tree(leaves.data(), count, 7, many.data(), never);
  CHECK(one == many);
  const std::atomic<bool> stopped{true};
  CHECK(error_of([&] { hash_tree(leaves.data(), count, 3, one.data(), stopped); }) == "ABORTED");
  // Rows of 4 KiB, so that they are worth several threads.
  const size_t rows = 1000;
  const LeafRows some{3, 17, leaves.data(), leaves.data() + 100, 2048, 2048, 3000};
  Bytes by_one(rows * 40, 0xa5), by_many = by_one;
  hash_leaves(some, rows, 1, by_one.data(), 40, never);
  hash_leaves(some, rows, 5, by_many.data(), 40, never);
  CHECK(by_one == by_many && by_one[32] == 0xa5);
  CHECK(slice(by_one, 999 * 40, 32) == tagged_hash("leaf", {le32(3), le32(17 + 999), slice(leaves, 999 * 3000, 2048),
                                                            slice(leaves, 999 * 3000 + 100, 2048)}));
  CHECK(error_of([&] { hash_leaves(some, rows, 2, by_one.data(), 40, stopped); }) == "ABORTED");
}

void a_call_that_is_cancelled_while_it_hashes_can_be_repeated() {
  const RandomModel m = random_models()[0];
  const auto model = m.load(2, "auto");
  const std::vector<uint32_t> tokens = m.tokens(30);
  const Bytes expected = expected_leaves(whole_pass(model, m.kv, tokens, 64), 30);
  for (int delay = 0; delay < 8; ++delay) {
    Sequence sequence(model, m.kv, 30, 8);
    Bytes leaves(expected.size());
    std::atomic<bool> cancelled{delay == 0};
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay * 100));
      cancelled = true;
    });
    const std::string error =
        error_of([&] { sequence.append(tokens, {}, nullptr, nullptr, nullptr, cancelled, leaves.data()); });
    other.join();
    CHECK(error.empty() || error == "ABORTED", error);
    CHECK(sequence.length() == (error.empty() ? 30u : 0u));
    if (!error.empty()) sequence.append(tokens, {}, nullptr, nullptr, nullptr, never, leaves.data());
    CHECK(leaves == expected, delay);
  }
}

}  // namespace

int main() {
  RUN(leaves_of_a_sequence_are_hashes_of_what_is_extracted);
  RUN(samples_beside_leaves_are_the_same);
  RUN(the_tree_s_head_is_the_definition_s);
  RUN(threads_change_nothing_and_work_can_be_stopped);
  RUN(a_call_that_is_cancelled_while_it_hashes_can_be_repeated);
  return result();
}
