// Sampled K rows out of caches laid out as engines do it: which share of the copy bandwidth?
#include "bench.h"

namespace poc::bench {
namespace {

constexpr size_t kPageSize = 16, kBytes = size_t{1} << 30;  // of a cache, many times any L2

// A permutation of 0 .. 2^bits - 1 that looks random.
uint32_t scattered(uint32_t x, uint32_t bits) {
  const uint32_t mask = static_cast<uint32_t>((uint64_t{1} << bits) - 1);
  for (const uint32_t factor : {2654435761u, 2246822519u, 3266489917u}) {
    x = (x * factor + 12345u) & mask;
    x ^= x >> (bits / 2);
  }
  return x;
}

struct Shape {
  size_t heads, dim;
};

KvLayout layout_of(const std::string& kind, Shape s, const uint32_t* table) {
  const size_t row = s.heads * s.dim;
  if (kind == "contiguous") return {kBytes / (row * 2), 0, row, s.dim, 1, nullptr, 0, 0};
  if (kind == "paged 16") return {kPageSize, kPageSize * row, row, s.dim, 1, table, 0, 0};
  // (page, head, dim / 8, slot, 8)
  return {kPageSize, kPageSize * row, 8, kPageSize * s.dim, 1, table, 8, kPageSize * 8};
}

void hold_rows(Bench& bench, const std::string& id, const DeviceMemory& cache, const DeviceMemory& out, Shape s,
               KvLayout layout, const std::vector<uint32_t>& table, const std::vector<uint32_t>& positions) {
  if (layout.block_table) layout.block_table = table.data();
  for (const size_t i : {size_t{0}, positions.size() / 3, positions.size() - 1}) {
    const std::vector<uint16_t> row = out.download<uint16_t>(i * s.heads * s.dim, s.heads * s.dim);
    for (const size_t head : {size_t{0}, s.heads - 1})
      for (const size_t dim : {size_t{0}, size_t{13}, s.dim - 1}) {
        const uint16_t stored = cache.download<uint16_t>(kv_index(layout, positions[i], head, dim), 1)[0];
        bench.expect(stored == row[head * s.dim + dim], id);
      }
  }
}

void gather_rows(Bench& bench, const DeviceMemory& cache, Shape s) {
  const size_t row_bytes = s.heads * s.dim * 2, slots = kBytes / row_bytes, count = slots / 4;
  uint32_t bits = 0;
  while ((size_t{1} << bits) < slots) ++bits;
  std::vector<uint32_t> table(slots / kPageSize), positions(count);
  for (uint32_t i = 0; i < table.size(); ++i) table[i] = scattered(i, bits - 4);
  for (uint32_t i = 0; i < count; ++i) positions[i] = scattered(i, bits);  // each at most once
  DeviceMemory device_table(table.size() * 4), device_positions(count * 4), out(count * row_bytes);
  device_table.upload(table);
  device_positions.upload(positions);
  KvView view;
  view.dtype = Dtype::bf16, view.num_kv_heads = s.heads, view.head_dim = s.dim;
  for (const std::string kind : {"contiguous", "paged 16", "paged 16, split K"}) {
    const KvLayout layout = layout_of(kind, s, device_table.as<uint32_t>());
    const std::string id = text("gather %zu-byte rows, %s", row_bytes, kind.c_str());
    const auto work = [&] {
      cuda::extract(bench.queue, cache.as<char>(), layout, view, device_positions.as<uint32_t>(), count,
                    out.as<char>());
    };
    work();
    require(cudaStreamSynchronize(bench.queue.stream), "gather");
    hold_rows(bench, id, cache, out, s, layout, table, positions);
    const double rate = 2.0 * static_cast<double>(count * row_bytes) / bench.seconds(work, true);
    // Memory is read by 32 bytes, of which split K leaves 16 to a row: three bytes move for two that count.
    const double share = layout.dim_split ? 2.0 / 3 : 1;
    bench.report(id, rate / bench.copy_rate, "share of copy", 0.85 * share, 0.95 * share,
                 text("%.0f GB/s, %zu random positions of %zu", rate / 1e9, count, slots));
  }
}

}  // namespace

void bench_gather(Bench& bench) {
  DeviceMemory cache(kBytes);
  cache.fill(Dtype::bf16, 1, 2);
  for (const Shape& s : {Shape{1, 128}, Shape{4, 64}, Shape{8, 64}, Shape{16, 128}}) gather_rows(bench, cache, s);
}

}  // namespace poc::bench
