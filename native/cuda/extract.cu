// Gathers K or V rows of given positions from any cache in device memory: ours, or a foreign engine's.
#include "block.cuh"

namespace poc::cuda {
namespace {

constexpr int kThreads = 256, kUnroll = 4;

struct ExtractArgs {
  const char* data;
  char* out;  // (num_positions, num_kv_heads, head_dim)
  KvLayout layout;
  const uint32_t* positions;
  uint32_t num_positions, num_heads, words, word_dims;  // words of word_dims values in one head
  uint32_t shift;                                       // 2^shift threads share a row
  const uint32_t* stop;
};

// Word: what is moved at a time, 16 bytes where the layout allows it, else one value. A row is shared by a few
// neighbouring threads, and a thread has kUnroll words on their way at once.
template <class Word, int BYTES>
__global__ void __launch_bounds__(kThreads) extract_kernel(const __grid_constant__ ExtractArgs args) {
  if (stopped(args.stop)) return;
  const uint32_t thread = blockIdx.x * kThreads + threadIdx.x, row = thread >> args.shift;
  if (row >= args.num_positions) return;
  const uint32_t position = args.positions[row], step = 1u << args.shift, row_words = args.num_heads * args.words;
  Word* out = reinterpret_cast<Word*>(args.out) + static_cast<size_t>(row) * row_words;
  const size_t page_base = kv_index(args.layout, position, 0, 0);
  KvLayout inside = args.layout;  // of the position's own page
  inside.block_table = nullptr;
  for (uint32_t word = thread & (step - 1); word < row_words; word += step * kUnroll) {
    Word moved[kUnroll] = {};
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const uint32_t at = word + i * step;
      const size_t index = kv_index(inside, 0, at / args.words, at % args.words * args.word_dims);
      if (at < row_words) moved[i] = *reinterpret_cast<const Word*>(args.data + (page_base + index) * BYTES);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i)
      if (word + i * step < row_words) out[word + i * step] = moved[i];
  }
}

// Whether 16 bytes of a head are always 16 aligned bytes of the cache.
bool by_16_bytes(const void* data, const KvLayout& layout, const KvView& cache, const void* out) {
  const size_t bytes = dtype_bytes(cache.dtype), dims = 16 / bytes;
  const auto aligned = [&](size_t stride) { return stride * bytes % 16 == 0; };
  const bool split_fits = layout.dim_split == 0 || (layout.dim_split % dims == 0 && aligned(layout.split_stride));
  return layout.dim_stride == 1 && split_fits && cache.head_dim % dims == 0 && aligned(layout.page_stride) &&
         aligned(layout.slot_stride) && aligned(layout.head_stride) && reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(out) % 16 == 0;
}

}  // namespace

void extract(Queue queue, const void* data, const KvLayout& layout, const KvView& cache, const uint32_t* positions,
             size_t num_positions, void* out) {
  if (num_positions == 0) return;
  const size_t bytes = dtype_bytes(cache.dtype);
  const bool wide = by_16_bytes(data, layout, cache, out);
  const uint32_t word_dims = wide ? static_cast<uint32_t>(16 / bytes) : 1;
  ExtractArgs args{static_cast<const char*>(data),
                   static_cast<char*>(out),
                   layout,
                   positions,
                   static_cast<uint32_t>(num_positions),
                   static_cast<uint32_t>(cache.num_kv_heads),
                   static_cast<uint32_t>(cache.head_dim) / word_dims,
                   word_dims,
                   0,
                   queue.stop};
  while ((1u << args.shift) * kUnroll < args.num_heads * args.words && args.shift < 8) ++args.shift;
  const dim3 grid(ceil_div(num_positions << args.shift, kThreads));
  if (wide && bytes == 4)
    POC_LAUNCH((extract_kernel<uint4, 4>), grid, kThreads, 0, queue.stream, args);
  else if (wide)
    POC_LAUNCH((extract_kernel<uint4, 2>), grid, kThreads, 0, queue.stream, args);
  else if (bytes == 4)
    POC_LAUNCH((extract_kernel<uint32_t, 4>), grid, kThreads, 0, queue.stream, args);
  else
    POC_LAUNCH((extract_kernel<uint16_t, 2>), grid, kThreads, 0, queue.stream, args);
}

}  // namespace poc::cuda
