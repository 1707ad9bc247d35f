// Extraction out of foreign caches, contiguous and paged, in any order of strides, against a plain loop.
#include "../cpu/extract.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>

#include "../cpu/cpu_backend.h"
#include "check.h"

using namespace poc;
using namespace poc::test;

namespace {

// A cache as another engine has it: how to find an element is written here without KvLayout.
struct Foreign {
  std::vector<uint8_t> bytes;
  KvLayout layout;
  std::function<size_t(size_t position, size_t head, size_t dim)> index;
};

struct Shape {
  size_t positions, heads, dim;
};

Foreign filled(Random& random, size_t elements, Dtype dtype, Foreign cache) {
  cache.bytes.resize(elements * dtype_bytes(dtype));
  for (uint8_t& byte : cache.bytes) byte = static_cast<uint8_t>(random.next());  // NaN patterns too: bits are copied
  return cache;
}

Foreign contiguous_nhd(Random& random, const Shape& s, Dtype dtype) {
  const KvLayout layout{s.positions, 0, s.heads * s.dim, s.dim, 1, nullptr};
  return filled(random, s.positions * s.heads * s.dim, dtype,
                {{}, layout, [s](size_t p, size_t h, size_t d) { return (p * s.heads + h) * s.dim + d; }});
}

Foreign contiguous_hnd(Random& random, const Shape& s, Dtype dtype) {
  const KvLayout layout{s.positions, 0, s.dim, s.positions * s.dim, 1, nullptr};
  return filled(random, s.positions * s.heads * s.dim, dtype,
                {{}, layout, [s](size_t p, size_t h, size_t d) { return (h * s.positions + p) * s.dim + d; }});
}

// Values of one dim side by side for all positions, as llama.cpp keeps V without flash attention.
Foreign transposed(Random& random, const Shape& s, Dtype dtype) {
  const KvLayout layout{s.positions, 0, 1, s.dim * s.positions, s.positions, nullptr};
  return filled(random, s.positions * s.heads * s.dim, dtype,
                {{}, layout, [s](size_t p, size_t h, size_t d) { return (h * s.dim + d) * s.positions + p; }});
}

// (head, position, dim) padded to 16 positions and 8 values.
Foreign padded(Random& random, const Shape& s, Dtype dtype) {
  const size_t slots = (s.positions + 15) / 16 * 16, dim = (s.dim + 7) / 8 * 8;
  const KvLayout layout{slots, 0, dim, slots * dim, 1, nullptr};
  return filled(random, slots * dim * s.heads, dtype,
                {{}, layout, [=](size_t p, size_t h, size_t d) { return h * slots * dim + p * dim + d; }});
}

// Pages of `size` positions in a pool; `table` says which page is where. Inside a page NHD or HND.
Foreign paged(Random& random, const Shape& s, Dtype dtype, size_t size, bool hnd, const std::vector<uint32_t>& table,
              size_t pool) {
  const size_t page = size * s.heads * s.dim;
  KvLayout layout{size, page, s.heads * s.dim, s.dim, 1, table.data()};
  if (hnd) layout.slot_stride = s.dim, layout.head_stride = size * s.dim;
  return filled(random, pool * page, dtype, {{}, layout, [=, &table](size_t p, size_t h, size_t d) {
                                               const size_t inside = hnd ? (h * size + p % size) * s.dim + d
                                                                         : ((p % size) * s.heads + h) * s.dim + d;
                                               return table[p / size] * page + inside;
                                             }});
}

// vLLM's paged K: (blocks, heads, dim / x, block size, x) with x dims in 16 bytes.
Foreign vllm_k(Random& random, const Shape& s, Dtype dtype, size_t size, const std::vector<uint32_t>& table,
               size_t pool) {
  const size_t x = dtype == Dtype::f32 ? 4 : 8, groups = s.dim / x, page = s.heads * groups * size * x;
  CHECK(s.dim % x == 0);
  const KvLayout layout{size, page, x, groups * size * x, 1, table.data(), x, size * x};
  return filled(random, pool * page, dtype, {{}, layout, [=, &table](size_t p, size_t h, size_t d) {
                                               size_t at = table[p / size];
                                               at = at * s.heads + h;
                                               at = at * groups + d / x;
                                               at = at * size + p % size;
                                               return at * x + d % x;
                                             }});
}

// vLLM's paged V: (blocks, heads, dim, block size).
Foreign vllm_v(Random& random, const Shape& s, Dtype dtype, size_t size, const std::vector<uint32_t>& table,
               size_t pool) {
  const size_t page = s.heads * s.dim * size;
  const KvLayout layout{size, page, 1, s.dim * size, size, table.data()};
  return filled(random, pool * page, dtype, {{}, layout, [=, &table](size_t p, size_t h, size_t d) {
                                               size_t at = table[p / size];
                                               at = at * s.heads + h;
                                               at = at * s.dim + d;
                                               return at * size + p % size;
                                             }});
}

// Groups of `split` dims, the last one perhaps shorter: (page, group, head, slot, dim of the group), or with the
// dim of the group before the slot, so that nothing is side by side.
Foreign groups_first(Random& random, const Shape& s, Dtype dtype, size_t size, size_t split, bool dim_last,
                     const std::vector<uint32_t>& table, size_t pool) {
  const size_t groups = (s.dim + split - 1) / split, page = groups * s.heads * size * split;
  KvLayout layout{size, page, split, size * split, 1, table.data(), split, s.heads * size * split};
  if (!dim_last) layout.slot_stride = 1, layout.dim_stride = size;
  return filled(random, pool * page, dtype, {{}, layout, [=, &table](size_t p, size_t h, size_t d) {
                                               const size_t slot = p % size, in_group = d % split;
                                               size_t at = table[p / size];
                                               at = at * groups + d / split;
                                               at = at * s.heads + h;
                                               return at * size * split +
                                                      (dim_last ? slot * split + in_group : in_group * size + slot);
                                             }});
}

const std::atomic<bool> never{false};

void hold(Random& random, const Shape& s, Dtype dtype, Foreign k, Foreign v, const std::string& what) {
  static const auto backend = cpu::make_backend(2, "auto");
  KvView view;
  view.k = k.bytes.data(), view.v = v.bytes.data();
  view.k_layout = k.layout, view.v_layout = v.layout;
  view.dtype = dtype, view.num_kv_heads = s.heads, view.head_dim = s.dim;
  std::vector<uint32_t> positions;
  for (uint32_t p = 0; p < s.positions; ++p)
    if (p + 1 == s.positions || random.below(3) == 0) positions.push_back(p);
  const size_t bytes = dtype_bytes(dtype), row = s.heads * s.dim * bytes;
  CHECK(view.row_bytes() == row, what);
  std::vector<uint8_t> got_k(positions.size() * row + 1, 0xa5), got_v = got_k, alone = got_k;
  backend->ops(never)->extract(view, positions.data(), positions.size(), got_k.data(), got_v.data());
  cpu::extract_rows(view.k, view.k_layout, view, positions.data(), positions.size(), alone.data());
  CHECK(alone == got_k, what);
  for (const auto& [got, from] : {std::pair{&got_k, &k}, std::pair{&got_v, &v}}) {
    CHECK(got->back() == 0xa5, what);
    size_t at = 0;
    for (const uint32_t position : positions)
      for (size_t head = 0; head < s.heads; ++head)
        for (size_t dim = 0; dim < s.dim; ++dim, at += bytes) {
          const uint8_t* expected = from->bytes.data() + from->index(position, head, dim) * bytes;
          CHECK(memcmp(got->data() + at, expected, bytes) == 0, what, " position ", position, " head ", head, " dim ",
                dim);
        }
  }
}

// A pool of pages in random order, some of them unused.
std::vector<uint32_t> random_table(Random& random, size_t pages) {
  std::vector<uint32_t> table(pages + random.below(4));
  std::iota(table.begin(), table.end(), 0u);
  for (size_t i = table.size(); i > 1; --i) std::swap(table[i - 1], table[random.below(i)]);
  return table;
}

void rows_are_found_in_every_layout() {
  Random random(91);
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16})
    for (int round = 0; round < (quick() ? 5 : 40); ++round) {
      const Shape s{1 + random.below(70), 1 + random.below(5), 1 + random.below(40)};
      const size_t size = std::vector<size_t>{1, 16, 32, 7}[random.below(4)], pages = (s.positions + size - 1) / size;
      const std::vector<uint32_t> table = random_table(random, pages);
      const size_t pool = table.size();
      const std::string what = text(s.positions, "x", s.heads, "x", s.dim, ", pages of ", size);
      hold(random, s, dtype, contiguous_nhd(random, s, dtype), contiguous_hnd(random, s, dtype), "contiguous " + what);
      hold(random, s, dtype, padded(random, s, dtype), transposed(random, s, dtype), "padded, transposed " + what);
      hold(random, s, dtype, paged(random, s, dtype, size, false, table, pool),
           paged(random, s, dtype, size, true, table, pool), "paged " + what);
    }
}

void split_dims_are_joined() {
  Random random(94);
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16})
    for (int round = 0; round < (quick() ? 5 : 40); ++round) {
      const size_t x = 16 / dtype_bytes(dtype);
      Shape s{1 + random.below(70), 1 + random.below(5), x * (1 + random.below(6))};
      const size_t size = std::vector<size_t>{1, 16, 32, 7}[random.below(4)], pages = (s.positions + size - 1) / size;
      const std::vector<uint32_t> table = random_table(random, pages);
      const size_t pool = table.size();
      std::string what = text(s.positions, "x", s.heads, "x", s.dim, ", blocks of ", size);
      hold(random, s, dtype, vllm_k(random, s, dtype, size, table, pool), vllm_v(random, s, dtype, size, table, pool),
           "vLLM " + what);
      s.dim = 1 + random.below(40);
      const size_t split = 1 + random.below(s.dim + 3);
      what = text(s.positions, "x", s.heads, "x", s.dim, ", split by ", split, ", pages of ", size);
      hold(random, s, dtype, groups_first(random, s, dtype, size, split, true, table, pool),
           groups_first(random, s, dtype, size, split, false, table, pool), what);
    }
}

// kv_index by itself: attention and the tests of other backends use it without extract_rows.
void every_element_of_a_split_has_its_index() {
  Random random(95);
  const Shape s{40, 3, 24};
  const std::vector<uint32_t> table{2, 0, 3};
  for (const Foreign& cache :
       {vllm_k(random, s, Dtype::f32, 16, table, 4), vllm_k(random, s, Dtype::bf16, 16, table, 4),
        vllm_v(random, s, Dtype::f16, 16, table, 4), groups_first(random, s, Dtype::f16, 16, 7, false, table, 4)})
    for (size_t position = 0; position < s.positions; ++position)
      for (size_t head = 0; head < s.heads; ++head)
        for (size_t dim = 0; dim < s.dim; ++dim)
          CHECK(kv_index(cache.layout, position, head, dim) == cache.index(position, head, dim), position, head, dim);
}

void pages_without_a_table_stand_in_order() {
  Random random(92);
  const Shape s{50, 2, 6};
  std::vector<uint32_t> table{0, 1, 2, 3};
  Foreign k = paged(random, s, Dtype::f16, 16, false, table, 4), v = paged(random, s, Dtype::f16, 16, true, table, 4);
  k.layout.block_table = v.layout.block_table = nullptr;
  hold(random, s, Dtype::f16, k, v, "no table");
}

void none_is_none() {
  Random random(93);
  const Shape s{4, 2, 6};
  Foreign k = contiguous_nhd(random, s, Dtype::f32);
  KvView view;
  view.num_kv_heads = 2, view.head_dim = 6;
  uint8_t out = 0xa5;
  cpu::extract_rows(k.bytes.data(), k.layout, view, nullptr, 0, &out);
  CHECK(out == 0xa5);
}

}  // namespace

int main() {
  RUN(rows_are_found_in_every_layout);
  RUN(split_dims_are_joined);
  RUN(every_element_of_a_split_has_its_index);
  RUN(pages_without_a_table_stand_in_order);
  RUN(none_is_none);
  return result();
}
