// Bias, q/k-norm, RoPE (half pairing), the KV write and the copy of sampled rows (docs/NUMERICS.md,
// section 6); and the table of cosines and sines.
#include "../core/elementary.h"
#include "row_norm.cuh"

namespace poc::cuda {
namespace {

constexpr int kWarps = 4;

struct Args {
  RopeKvArgs op;
  const uint32_t* stop;
};

// What becomes of one head of one row.
struct Head {
  const float *in, *bias, *norm;  // bias of this head and norm: null where there is none
  bool rotated;
};

// One warp: bias, norm and rotation of a head into `head_smem` (head_dim).
static __device__ __forceinline__ void prepare(const Head& head, const RopeKvArgs& op, uint32_t row, float* head_smem,
                                               int lane) {
  const uint32_t dim = static_cast<uint32_t>(op.cache.head_dim), half = dim / 2;
  for (uint32_t i = lane; i < dim; i += kWarp) head_smem[i] = head.bias ? head.in[i] + head.bias[i] : head.in[i];
  __syncwarp();
  if (head.norm) {
    const float scale = inverse_rms(head_smem, dim, op.eps, lane);
    for (uint32_t i = lane; i < dim; i += kWarp) head_smem[i] = (head_smem[i] * scale) * head.norm[i];
    __syncwarp();
  }
  if (!head.rotated) return;
  const float *cosines = op.cosines + static_cast<size_t>(row) * half,
              *sines = op.sines + static_cast<size_t>(row) * half;
  for (uint32_t i = lane; i < half; i += kWarp) {
    const float a = head_smem[i], b = head_smem[i + half];
    head_smem[i] = fmaf(a, cosines[i], -(b * sines[i]));
    head_smem[i + half] = fmaf(b, cosines[i], a * sines[i]);
  }
  __syncwarp();
}

// One warp: a head of K or V to its slot and, where the row is sampled, to its sample.
static __device__ __forceinline__ void write(const RopeKvArgs& op, bool is_k, uint32_t row, uint32_t head,
                                             const float* head_smem, int lane) {
  const KvView& cache = op.cache;
  const uint32_t dim = static_cast<uint32_t>(cache.head_dim);
  void* data = is_k ? cache.k : cache.v;
  if (data) {
    const KvLayout& layout = is_k ? cache.k_layout : cache.v_layout;
    const size_t base = kv_index(layout, op.slots[row], head, 0);
    for (uint32_t i = lane; i < dim; i += kWarp)
      store_float(data, cache.dtype, base + i * layout.dim_stride, head_smem[i]);
  }
  if (op.samples == nullptr || op.samples[row] < 0) return;
  const size_t base = (static_cast<size_t>(op.samples[row]) * cache.num_kv_heads + head) * dim;
  for (uint32_t i = lane; i < dim; i += kWarp)
    store_float(is_k ? op.sampled_k : op.sampled_v, cache.dtype, base + i, head_smem[i]);
}

// A block owns a row; its warps take heads in turn: those of q, then of k, then of v.
__global__ void __launch_bounds__(kWarps* kWarp) rope_kv_kernel(const __grid_constant__ Args args) {
  if (stopped(args.stop)) return;
  const RopeKvArgs& op = args.op;
  const uint32_t row = blockIdx.x, dim = static_cast<uint32_t>(op.cache.head_dim);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  ptx::SmemCarver smem;
  float* head_smem = smem.take<float>(kWarps * dim) + warp * dim;
  const uint32_t num_q = op.q.data ? static_cast<uint32_t>(op.q.cols) / dim : 0;
  const uint32_t num_kv = op.k.data ? static_cast<uint32_t>(op.cache.num_kv_heads) : 0;
  for (uint32_t head = warp; head < num_q + 2 * num_kv; head += kWarps) {
    if (head < num_q) {
      float* q = op.q.data + row * op.q.stride + head * dim;
      prepare({q, op.q_bias ? op.q_bias + head * dim : nullptr, op.q_norm, true}, op, row, head_smem, lane);
      for (uint32_t i = lane; i < dim; i += kWarp) q[i] = head_smem[i];
    } else {
      const bool is_k = head < num_q + num_kv;
      const uint32_t kv = is_k ? head - num_q : head - num_q - num_kv;
      const Rows& rows = is_k ? op.k : op.v;
      const float* bias = is_k ? op.k_bias : op.v_bias;
      prepare({rows.data + row * rows.stride + kv * dim, bias ? bias + kv * dim : nullptr, is_k ? op.k_norm : nullptr,
               is_k},
              op, row, head_smem, lane);
      write(op, is_k, row, kv, head_smem, lane);
    }
    __syncwarp();  // before the next head takes the same memory
  }
}

struct TableArgs {
  const float* frequencies;
  const uint32_t* positions;
  float *cosines, *sines;
  uint32_t half;
  size_t count;
  const uint32_t* stop;
};

__global__ void __launch_bounds__(128) rope_table_kernel(const __grid_constant__ TableArgs args) {
  if (stopped(args.stop)) return;
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < args.count)
    rope_angle(args.frequencies[i % args.half], args.positions[i / args.half], args.cosines + i, args.sines + i);
}

}  // namespace

void rope_kv(Queue queue, const RopeKvArgs& op) {
  const size_t rows = op.q.data ? op.q.rows : op.k.rows;
  POC_LAUNCH(rope_kv_kernel, dim3(static_cast<uint32_t>(rows)), kWarps * kWarp,
             kWarps * op.cache.head_dim * sizeof(float), queue.stream, (Args{op, queue.stop}));
}

void rope_table(Queue queue, const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions,
                float* cosines, float* sines) {
  const TableArgs args{frequencies,          positions, cosines, sines, static_cast<uint32_t>(half),
                       num_positions * half, queue.stop};
  POC_LAUNCH(rope_table_kernel, dim3(ceil_div(args.count, 128)), 128, 0, queue.stream, args);
}

}  // namespace poc::cuda
