// Causal grouped-query attention over our own cache: exact maximum first, then numerator and denominator as
// one ascending chain over the row's own keys (docs/NUMERICS.md, section 7). Two passes over the keys: the
// first finds each row's maximum, the second makes the same scores again and weighs V, so that no scores
// are kept in device memory.
#include "../core/elementary.h"
#include "../core/error.h"
#include "tile.cuh"

namespace poc::cuda {
namespace {

constexpr int kRows = 64, kKeys = 64, kThreads = 128, kScoreDims = 32;
constexpr int kWeightStride = kKeys + 4;           // rows fall into different banks
constexpr int kMaxSegments = 64, kMaxShared = 64;  // that one launch takes
static_assert(kMaxSharedRuns <= kMaxShared, "any segment fits into a launch");
static_assert(kKeys == kPageSlots, "a tile of keys is a page");

struct Span {
  uint32_t first_row, rows, first_position, first_slot;
  uint32_t first_tile;  // of kRows rows
  uint32_t first_shared, num_shared;
};

struct Args {
  const float* q;  // (rows, num_heads * head_dim), rows q_stride apart
  float* out;
  size_t q_stride, out_stride;
  KvView cache;
  uint32_t group, window;  // query heads of one KV head; 0: no window
  uint32_t num_spans;
  Span spans[kMaxSegments];
  SharedKeys shared[kMaxShared];
  const uint32_t* stop;
};

// The rows of one block, and which keys they see. Positions are those of the sequence.
struct RowTile {
  uint32_t row, rows, position;  // row of q
  uint32_t span;                 // in Args::spans: what it says is read anew, which takes no registers meanwhile
  int window;
  // The keys of a page follow one another.
  __device__ __forceinline__ uint32_t slot_of(const Args& args, int key) const {
    const Span& s = args.spans[span];
    uint32_t run = s.first_shared;
    const uint32_t end = run + s.num_shared;
    while (run < end && static_cast<uint32_t>(key) >= args.shared[run].end) ++run;
    const uint32_t slot = run < end ? static_cast<uint32_t>(args.shared[run].first_slot) : s.first_slot;
    return slot + static_cast<uint32_t>(key);
  }
  __device__ __forceinline__ int first_key(int row_in_tile) const {
    const int last = static_cast<int>(position) + row_in_tile;
    return window && last + 1 > window ? last + 1 - window : 0;
  }
  __device__ __forceinline__ int last_key(int row_in_tile) const { return static_cast<int>(position) + row_in_tile; }
  __device__ __forceinline__ bool sees(int row_in_tile, int key) const {
    return row_in_tile < static_cast<int>(rows) && first_key(row_in_tile) <= key && key <= last_key(row_in_tile);
  }
  // Whether every row sees all keys [key, key + kKeys).
  __device__ __forceinline__ bool all_see(int key) const {
    return first_key(static_cast<int>(rows) - 1) <= key && key + kKeys - 1 <= last_key(0);
  }
};

// Later rows see more keys: they come first, so that no long block is left for the end.
static __device__ __forceinline__ RowTile find_rows(const Args& args) {
  const uint32_t tile = gridDim.x - 1 - blockIdx.x;
  uint32_t at = 0;
  while (at + 1 < args.num_spans && args.spans[at + 1].first_tile <= tile) ++at;
  const Span& span = args.spans[at];
  const uint32_t first = (tile - span.first_tile) * kRows, rows = min(span.rows - first, static_cast<uint32_t>(kRows));
  return {span.first_row + first, rows, span.first_position + first, at, static_cast<int>(args.window)};
}

template <int DIM>
struct Shape {
  static constexpr int kValueRows = DIM <= 128 ? 32 : 16;  // keys of V in shared memory at a time
  static constexpr int kPiece = kScoreDims * kKeys > kValueRows* DIM ? kScoreDims* kKeys : kValueRows* DIM;
  static constexpr int kGroups = DIM / 64;
  static constexpr int kSmemFloats = kRows * DIM + kRows * kWeightStride + kPiece + 3 * kRows;
};

template <int DIM>
struct Smem {
  float* q;        // (kRows, DIM)
  float* weights;  // (kRows, kWeightStride)
  float* piece;    // of K: (kScoreDims, kKeys); of V: (kValueRows, DIM)
  float* tops;     // (2, kRows): maxima of the two halves of a tile's keys
  float* sums;     // (kRows)
  __device__ __forceinline__ explicit Smem(ptx::SmemCarver carver)
      : q(carver.take<float>(kRows * DIM)),
        weights(carver.take<float>(kRows * kWeightStride)),
        piece(carver.take<float>(Shape<DIM>::kPiece)),
        tops(carver.take<float>(2 * kRows)),
        sums(carver.take<float>(kRows)) {}
};

// Dims [dim, dim + kScoreDims) of a page of K, widened: (kScoreDims, kKeys).
template <class T>
static __device__ __forceinline__ void load_k(float* piece, const Args& args, size_t page_base, uint32_t dim) {
  for (int at = threadIdx.x * 8; at < kScoreDims * kKeys; at += kThreads * 8) {
    const uint32_t d = dim + at / kKeys;
    if (d >= args.cache.head_dim) continue;
    const T* from = static_cast<const T*>(args.cache.k) + page_base + d * args.cache.k_layout.dim_stride + at % kKeys;
    const Eight<T> values = *reinterpret_cast<const Eight<T>*>(from);
#pragma unroll
    for (int i = 0; i < 8; ++i) piece[at + i] = widen(values.value[i]);
  }
}

// V of `num_keys` slots from `slot` on, widened: (num_keys, DIM).
template <class T, int DIM>
static __device__ __forceinline__ void load_v(float* piece, const Args& args, uint32_t head, uint32_t slot,
                                              int num_keys) {
  const KvLayout& layout = args.cache.v_layout;  // one page: slots follow one another
  const T* first = static_cast<const T*>(args.cache.v) + head * layout.head_stride + slot * layout.slot_stride;
#pragma unroll(DIM <= 128 ? 2 : 1)  // more would take registers that `out` needs
  for (int at = threadIdx.x * 8; at < num_keys * DIM; at += kThreads * 8) {
    if (at % DIM >= static_cast<int>(args.cache.head_dim)) continue;
    const T* from = first + at / DIM * layout.slot_stride + at % DIM;
    const Eight<T> values = *reinterpret_cast<const Eight<T>*>(from);
#pragma unroll
    for (int i = 0; i < 8; ++i) piece[at + i] = widen(values.value[i]);
  }
}

// Scores of one tile of keys: each a chain over ascending dims, times scale.
template <class T, int DIM>
static __device__ __forceinline__ void make_scores(float (&scores)[8][4], const Smem<DIM>& smem, const Args& args,
                                                   const WarpTile& tile, uint32_t head, uint32_t slot, float scale) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) scores[i][j] = 0.0f;
  const int head_dim = static_cast<int>(args.cache.head_dim);
  const size_t page_base = kv_index(args.cache.k_layout, slot, head, 0);
  for (int dim = 0; dim < head_dim; dim += kScoreDims) {
    __syncthreads();  // all are done with what stands in `piece`
    load_k<T>(smem.piece, args, page_base, dim);
    __syncthreads();
    fma_tile<1>(scores, smem.q + tile.row * DIM + dim, DIM, smem.piece + tile.column, kKeys,
                min(head_dim - dim, kScoreDims));
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) scores[i][j] = scores[i][j] * scale;
}

// The greatest score of each row; result in smem.tops[0 .. kRows).
template <class T, int DIM>
static __device__ __forceinline__ void find_tops(const Smem<DIM>& smem, const Args& args, const RowTile& rows,
                                                 const WarpTile& tile, uint32_t head, float scale) {
  float tops[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) tops[i] = -INFINITY;
  const int last = rows.last_key(static_cast<int>(rows.rows) - 1);
  for (int key = rows.first_key(0) / kKeys * kKeys; key <= last; key += kKeys) {
    float scores[8][4];
    make_scores<T>(scores, smem, args, tile, head, rows.slot_of(args, key), scale);
    const bool all = rows.all_see(key);
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (all || rows.sees(tile.row + i, key + tile.column + j))
          tops[i] = scores[i][j] > tops[i] ? scores[i][j] : tops[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    for (int lane = 1; lane < 8; lane *= 2) {  // the eight threads of a row
      const float other = __shfl_xor_sync(0xffffffffu, tops[i], lane);
      tops[i] = other > tops[i] ? other : tops[i];
    }
    if (tile.column % 32 == 0) smem.tops[tile.column / 32 * kRows + tile.row + i] = tops[i];
  }
  __syncthreads();
  if (threadIdx.x < kRows) {
    const float a = smem.tops[threadIdx.x], b = smem.tops[kRows + threadIdx.x];
    smem.tops[threadIdx.x] = b > a ? b : a;
  }
  __syncthreads();
}

// Goes on with the chains over `num_keys` keys from `key` on: out += weight * v, for the keys that a row sees.
template <int DIM>
static __device__ __forceinline__ void weigh(float (&out)[8][4 * Shape<DIM>::kGroups], const Smem<DIM>& smem,
                                             const RowTile& rows, const WarpTile& tile, int tile_key, int offset) {
  constexpr int kGroups = Shape<DIM>::kGroups, kNum = Shape<DIM>::kValueRows;
  const float* weights = smem.weights + tile.row * kWeightStride + offset;
  const float* v = smem.piece + tile.column;
  if (rows.all_see(tile_key)) return fma_tile<kGroups>(out, weights, kWeightStride, v, DIM, kNum);
  for (int k = 0; k < kNum; ++k) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (!rows.sees(tile.row + i, tile_key + offset + k)) continue;
      const float weight = weights[i * kWeightStride + k];
#pragma unroll
      for (int j = 0; j < 4 * kGroups; ++j) out[i][j] = fmaf(weight, v[k * DIM + j / 4 * 32 + j % 4], out[i][j]);
    }
  }
}

// exp(score - top) of one tile of keys into smem.weights, and each row's sum goes on with its chain.
template <int DIM>
static __device__ __forceinline__ void make_weights(const float (&scores)[8][4], const Smem<DIM>& smem,
                                                    const RowTile& rows, const WarpTile& tile, int key) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float top = smem.tops[tile.row + i];
    float* to = smem.weights + (tile.row + i) * kWeightStride + tile.column;
#pragma unroll
    for (int j = 0; j < 4; ++j) to[j] = exp32(scores[i][j] - top);
  }
  __syncthreads();
  const int row = threadIdx.x;
  if (row >= kRows) return;
  float sum = smem.sums[row];
  for (int k = 0; k < kKeys; ++k)
    if (rows.sees(row, key + k)) sum = sum + smem.weights[row * kWeightStride + k];
  smem.sums[row] = sum;
}

// A block owns kRows rows of one head.
template <class T, int DIM>
__global__ void __launch_bounds__(kThreads, 2) attention_kernel(const __grid_constant__ Args args) {
  if (stopped(args.stop)) return;
  using S = Shape<DIM>;
  const RowTile rows = find_rows(args);
  const uint32_t head = blockIdx.y, kv_head = head / args.group;
  const int warp = threadIdx.x / kWarp, head_dim = static_cast<int>(args.cache.head_dim);
  WarpTile tile(threadIdx.x % kWarp);  // of scores: 32 rows by 32 keys; of out: 32 rows by DIM / 2 columns
  tile.row += warp / 2 * 32;
  WarpTile value_tile = tile;
  tile.column += warp % 2 * 32;
  value_tile.column += warp % 2 * (DIM / 2);
  const Smem<DIM> smem{ptx::SmemCarver()};
  const float scale = 1.0f / sqrtf(static_cast<float>(head_dim));

  for (int at = threadIdx.x; at < kRows * DIM; at += kThreads) {
    const uint32_t row = at / DIM, dim = at % DIM;
    const bool inside = row < rows.rows && static_cast<int>(dim) < head_dim;
    smem.q[at] = inside ? args.q[(rows.row + row) * args.q_stride + head * head_dim + dim] : 0.0f;
  }
  if (threadIdx.x < kRows) smem.sums[threadIdx.x] = 0.0f;
  find_tops<T>(smem, args, rows, tile, kv_head, scale);

  float out[8][4 * S::kGroups] = {};
  const int last = rows.last_key(static_cast<int>(rows.rows) - 1);
  for (int key = rows.first_key(0) / kKeys * kKeys; key <= last; key += kKeys) {
    float scores[8][4];
    make_scores<T>(scores, smem, args, tile, kv_head, rows.slot_of(args, key), scale);
    make_weights(scores, smem, rows, tile, key);
    for (int offset = 0; offset < kKeys; offset += S::kValueRows) {
      __syncthreads();  // weights are there; all are done with what stands in `piece`
      load_v<T, DIM>(smem.piece, args, kv_head, rows.slot_of(args, key + offset), S::kValueRows);
      __syncthreads();
      weigh(out, smem, rows, value_tile, key, offset);
    }
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = value_tile.row + i;
    if (row >= static_cast<int>(rows.rows)) continue;
    const float sum = smem.sums[row];
#pragma unroll
    for (int j = 0; j < 4 * S::kGroups; ++j) {
      const int dim = value_tile.column + j / 4 * 32 + j % 4;
      if (dim < head_dim) args.out[(rows.row + row) * args.out_stride + head * head_dim + dim] = out[i][j] / sum;
    }
  }
}

template <class T, int DIM>
void launch(Queue queue, const Args& args, uint32_t num_tiles, uint32_t num_heads) {
  constexpr size_t smem = Shape<DIM>::kSmemFloats * sizeof(float);
  cudaFuncSetAttribute(attention_kernel<T, DIM>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem));
  POC_LAUNCH((attention_kernel<T, DIM>), dim3(num_tiles, num_heads), kThreads, smem, queue.stream, args);
}

uint32_t u32(size_t n) { return static_cast<uint32_t>(n); }

// Puts segments from `first` on into a launch, as many as it takes; their number of tiles.
uint32_t add_segments(Args* args, const AttentionArgs& op, size_t first) {
  uint32_t tiles = 0, num_shared = 0;
  args->num_spans = 0;
  for (size_t i = first; i < op.num_segments && args->num_spans < kMaxSegments; ++i) {
    const Segment& s = op.segments[i];
    if (num_shared + s.num_shared > kMaxShared) break;
    args->spans[args->num_spans++] = {u32(s.first_row),  u32(s.rows), u32(s.first_position),
                                      u32(s.first_slot), tiles,       num_shared,
                                      u32(s.num_shared)};
    for (size_t run = 0; run < s.num_shared; ++run) args->shared[num_shared++] = s.shared[run];
    tiles += ceil_div(s.rows, kRows);
  }
  return tiles;
}

}  // namespace

void attention(Queue queue, const AttentionArgs& op) {
  const size_t head_dim = op.cache.head_dim, num_heads = op.q.cols / head_dim;
  Args args{};
  args.q = op.q.data, args.out = op.out.data;
  args.q_stride = op.q.stride, args.out_stride = op.out.stride;
  args.cache = op.cache;
  args.group = static_cast<uint32_t>(num_heads / op.cache.num_kv_heads);
  // A window longer than any sequence is none.
  args.window = static_cast<uint32_t>(op.sliding_window < (size_t{1} << 30) ? op.sliding_window : 0);
  args.stop = queue.stop;
  for (size_t first = 0; first < op.num_segments; first += args.num_spans) {
    const uint32_t tiles = add_segments(&args, op, first);
    with_dtype(op.cache.dtype, [&](auto value) {
      using T = decltype(value);
      const auto heads = static_cast<uint32_t>(num_heads);
      if (head_dim <= 64)
        launch<T, 64>(queue, args, tiles, heads);
      else if (head_dim <= 128)
        launch<T, 128>(queue, args, tiles, heads);
      else
        launch<T, 256>(queue, args, tiles, heads);
    });
  }
}

}  // namespace poc::cuda
