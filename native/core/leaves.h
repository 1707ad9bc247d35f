// What a commitment is made of: a digest for each layer and position of a sequence, and the tree over them
// (docs/FORMATS.md).
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace poc {

constexpr size_t kDigestBytes = 32;

// Rows of one layer at consecutive positions, as extraction gives them: K and V, or a hidden state and nothing.
struct LeafRows {
  uint32_t layer, first_position;
  const uint8_t *k, *v;
  size_t k_bytes, v_bytes;  // of one row
  size_t stride;            // bytes between rows
};

// SHA-256(tag of leaves, le32(layer), le32(position), K row, V row) of `count` rows; each `stride_out` bytes apart.
void hash_leaves(const LeafRows& rows, size_t count, size_t num_threads, uint8_t* out, size_t stride_out,
                 const std::atomic<bool>& cancelled);

// How many nodes stand above so many leaves, at least one: each level has half as many as the one below, rounded up.
size_t nodes_above(size_t num_leaves);

// Writes them level by level, the head last. Neighbours are paired, and an odd last node goes up as it is, so that
// the shape is that of RFC 6962, section 2.1.
void hash_tree(const uint8_t* leaves, size_t num_leaves, size_t num_threads, uint8_t* nodes,
               const std::atomic<bool>& cancelled);

}  // namespace poc
