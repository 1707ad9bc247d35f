// Causal grouped-query attention: exact maximum first, then numerator and denominator as one ascending
// chain over the row's own keys; see docs/NUMERICS.md, section 7.
#include "ops.h"
#include "tile.h"

namespace poc::cpu::POC_SIMD {
namespace {

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Keys [first, last) of a query, or of a block of them.
struct Keys {
  size_t first, last;
};

// A block's queries are counted as rows here, be they rows of the segment or heads.
size_t num_queries(const AttentionBlock& block) { return block.heads > 1 ? block.heads : block.rows; }

Keys keys_of(const AttentionBlock& block, size_t query) {
  const size_t row = block.first_row + (block.heads > 1 ? 0 : query);
  const size_t position = block.segment.first_position + row, window = block.args->sliding_window;
  return {window && position + 1 > window ? position + 1 - window : 0, position + 1};
}

// The block's queries among the rows of q, or of out.
Rows rows_of(const AttentionBlock& block, const Rows& all) {
  const size_t head_dim = block.args->cache.head_dim;
  float* first = all.data + (block.segment.first_row + block.first_row) * all.stride + block.head * head_dim;
  return {first, num_queries(block), head_dim, block.heads > 1 ? head_dim : all.stride};
}

// Everything one block needs; pointers into the caller's scratch.
struct Work {
  const AttentionBlock& block;
  const AttentionArgs& args;
  size_t kv_head, rows;
  Keys all;       // the keys that any row sees; `all.first` rounded down to a panel
  size_t stride;  // floats between rows of scores
  size_t vecs;    // vectors of 16 in a padded head
  float *q, *scores, *packed, *out;

  size_t slot(size_t key) const {
    const Segment& s = block.segment;
    size_t run = 0;
    while (run < s.num_shared && key >= s.shared[run].end) ++run;
    return (run < s.num_shared ? s.shared[run].first_slot : s.first_slot) + key;
  }
  float* score(size_t row, size_t key) const { return scores + row * stride + (key - all.first); }
};

Work make_work(const AttentionBlock& block) {
  const AttentionArgs& args = *block.args;
  const size_t head_dim = args.cache.head_dim, group = args.q.cols / head_dim / args.cache.num_kv_heads;
  const size_t rows = num_queries(block);
  const Keys first = keys_of(block, 0), last = keys_of(block, rows - 1);
  Work work{block,
            args,
            block.head / group,
            rows,
            {first.first / kPanel * kPanel, last.last},
            0,
            round_up(head_dim, kLanes) / kLanes,
            nullptr,
            nullptr,
            nullptr,
            nullptr};
  work.stride = round_up(work.all.last - work.all.first, kPanel) + kLanes;
  work.q = block.scratch;
  work.scores = work.q + kTileRows * head_dim;
  work.packed = work.scores + kTileRows * work.stride;
  work.out = work.packed + kTileRows * work.stride;
  return work;
}

// scores(row, key) = q(row) . k(key), a chain over dims; whole panels, so also keys no row may see.
template <class D>
void score_panels(const Work& w) {
  const AttentionArgs& args = w.args;
  const size_t head_dim = args.cache.head_dim;
  pack_rows(rows_of(w.block, args.q), 0, w.rows, w.q);
  const auto* k = static_cast<const typename D::Value*>(args.cache.k);
  for (size_t key = w.all.first; key < w.all.last; key += kPanel)
    tiles<D>(static_cast<int>(w.rows), kPanel / kLanes, w.q,
             k + kv_index(args.cache.k_layout, w.slot(key), w.kv_head, 0), kPanel, head_dim, w.score(0, key), w.stride,
             false);
}

// Scales a row's scores and replaces them by exp(score - max). What lies behind the row's last key, up
// to a vector's length, is overwritten and not read again.
void softmax_numerators(float* scores, size_t count, float scale) {
  const Vec scales(scale);
  float top = scores[0] * scale;
  size_t i = 0;
  Vec tops(top);
  for (; i + kLanes <= count; i += kLanes) {
    const Vec s = mul(load(scores + i), scales);
    store(scores + i, s);
    tops = max(tops, s);
  }
  float lanes_of_top[kLanes];
  store(lanes_of_top, tops);
  for (int j = 0; j < kLanes; ++j) top = lanes_of_top[j] > top ? lanes_of_top[j] : top;
  for (; i < count; ++i) {
    scores[i] = scores[i] * scale;
    top = scores[i] > top ? scores[i] : top;
  }
  for (i = 0; i < count; i += kLanes) store(scores + i, exp32(sub(load(scores + i), Vec(top))));
}

// Calls f for the parts of `keys` whose slots follow one another, ascending.
template <class F>
void for_runs(const Work& w, Keys keys, F f) {
  const Segment& s = w.block.segment;
  for (size_t run = 0; run <= s.num_shared && keys.first < keys.last; ++run) {
    const size_t end = run < s.num_shared && s.shared[run].end < keys.last ? s.shared[run].end : keys.last;
    if (keys.first >= end) continue;
    f(Keys{keys.first, end});
    keys.first = end;
  }
}

// Goes on with one row's chains over keys [first, last): out += p v, sum += p.
template <class D>
void weigh_row(const Work& w, size_t row, Keys keys, float* sum) {
  const auto* v = static_cast<const typename D::Value*>(w.args.cache.v);
  const KvLayout& layout = w.args.cache.v_layout;
  const float* p = w.score(row, keys.first);
  tiles<D>(1, static_cast<int>(w.vecs), p, v + kv_index(layout, w.slot(keys.first), w.kv_head, 0), layout.slot_stride,
           keys.last - keys.first, w.out + row * w.vecs * kLanes, w.vecs * kLanes, true);
  for (size_t key = keys.first; key < keys.last; ++key) *sum = *sum + *p++;
}

// The keys that all rows see, for all rows at once.
template <class D>
void weigh_common(const Work& w, Keys keys, float* sums) {
  const auto* v = static_cast<const typename D::Value*>(w.args.cache.v);
  const KvLayout& layout = w.args.cache.v_layout;
  Rows scores{w.scores + (keys.first - w.all.first), w.rows, keys.last - keys.first, w.stride};
  pack_rows(scores, 0, w.rows, w.packed);
  tiles<D>(static_cast<int>(w.rows), static_cast<int>(w.vecs), w.packed,
           v + kv_index(layout, w.slot(keys.first), w.kv_head, 0), layout.slot_stride, keys.last - keys.first, w.out,
           w.vecs * kLanes, true);
  Vec chains = load(sums);
  for (size_t i = 0; i < scores.cols; ++i) chains = add(chains, load(w.packed + i * w.rows));
  store(sums, chains);
}

template <class D>
void attend(const Work& w) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(w.args.cache.head_dim));
  score_panels<D>(w);
  float sums[kLanes] = {};
  for (size_t i = 0; i < w.rows * w.vecs * kLanes; ++i) w.out[i] = 0.0f;
  for (size_t row = 0; row < w.rows; ++row) {
    const Keys keys = keys_of(w.block, row);
    softmax_numerators(w.score(row, keys.first), keys.last - keys.first, scale);
  }
  // Seen by all rows: from where the last row begins to where the first row ends.
  Keys common{keys_of(w.block, w.rows - 1).first, keys_of(w.block, 0).last};
  if (common.first > common.last) common.first = common.last;
  const auto weigh = [&](size_t row, Keys keys) {
    for_runs(w, keys, [&](Keys run) { weigh_row<D>(w, row, run, sums + row); });
  };
  for (size_t row = 0; row < w.rows; ++row) weigh(row, {keys_of(w.block, row).first, common.first});
  for_runs(w, common, [&](Keys run) { weigh_common<D>(w, run, sums); });
  for (size_t row = 0; row < w.rows; ++row) {
    const Keys keys = keys_of(w.block, row);
    weigh(row, {common.last > keys.first ? common.last : keys.first, keys.last});
  }
  const size_t head_dim = w.args.cache.head_dim;
  const Rows all = rows_of(w.block, w.args.out);
  for (size_t row = 0; row < w.rows; ++row) {
    float* out = all.data + row * all.stride;
    for (size_t d = 0; d < head_dim; ++d) out[d] = w.out[row * w.vecs * kLanes + d] / sums[row];
  }
}

}  // namespace

size_t attention_scratch(const AttentionBlock& block) {
  const size_t head_dim = block.args->cache.head_dim;
  const size_t stride = round_up(block.segment.first_position + block.segment.rows, kPanel) + kPanel + kLanes;
  return kTileRows * (head_dim + 2 * stride + round_up(head_dim, kLanes)) + kLanes;
}

void attention(const AttentionBlock& block) {
  const Work work = make_work(block);
  with_dtype(block.args->cache.dtype, [&](auto dtype) { attend<decltype(dtype)>(work); });
}

}  // namespace poc::cpu::POC_SIMD
