#include "leaves.h"

#include <cstring>

#include "error.h"
#include "sha256.h"
#include "spread.h"

namespace poc {
namespace {

// What a thread should have to hash, well above the cost of starting it.
constexpr size_t kThreadBytes = 1 << 20;

// SHA-256 that has already taken in what every input of one use begins with, the zero byte at its end included.
template <size_t N>
Sha256 tagged(const char (&tag)[N]) {
  return Sha256().update(tag, N);
}

void store_le32(uint32_t value, uint8_t* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

void check(const std::atomic<bool>& cancelled) {
  if (cancelled.load(std::memory_order_relaxed)) throw Cancelled();
}

}  // namespace

void hash_leaves(const LeafRows& rows, size_t count, size_t num_threads, uint8_t* out, size_t stride_out,
                 const std::atomic<bool>& cancelled) {
  const Sha256 start = tagged("proof-of-cache/v1/leaf");
  spread(count, kThreadBytes / (rows.k_bytes + rows.v_bytes + 1), num_threads, [&](size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) {
      check(cancelled);
      uint8_t place[8];
      store_le32(rows.layer, place);
      store_le32(rows.first_position + static_cast<uint32_t>(i), place + 4);
      Sha256 hash = start;
      hash.update(place, sizeof place).update(rows.k + i * rows.stride, rows.k_bytes);
      if (rows.v_bytes > 0) hash.update(rows.v + i * rows.stride, rows.v_bytes);
      hash.finish(out + i * stride_out);
    }
  });
}

size_t nodes_above(size_t num_leaves) {
  size_t nodes = 0;
  for (size_t size = num_leaves; size > 1;) nodes += size = (size + 1) / 2;
  return nodes;
}

void hash_tree(const uint8_t* leaves, size_t num_leaves, size_t num_threads, uint8_t* nodes,
               const std::atomic<bool>& cancelled) {
  const Sha256 start = tagged("proof-of-cache/v1/node");
  const uint8_t* below = leaves;
  for (size_t size = num_leaves; size > 1; size = (size + 1) / 2) {
    spread(size / 2, kThreadBytes / (2 * kDigestBytes), num_threads, [&](size_t first, size_t last) {
      for (size_t i = first; i < last; ++i) {
        if (i % 1024 == 0) check(cancelled);
        Sha256(start).update(below + 2 * i * kDigestBytes, 2 * kDigestBytes).finish(nodes + i * kDigestBytes);
      }
    });
    if (size % 2 == 1) memcpy(nodes + size / 2 * kDigestBytes, below + (size - 1) * kDigestBytes, kDigestBytes);
    below = nodes;
    nodes += (size + 1) / 2 * kDigestBytes;
  }
}

}  // namespace poc
