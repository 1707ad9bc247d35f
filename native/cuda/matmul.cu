// out = x w^T. Each output is one chain over ascending inputs (docs/NUMERICS.md, section 4), kept in a
// register from the first input to the last.
#include "tile.cuh"

namespace poc::cuda {
namespace {

struct MatmulArgs {
  const float* x;  // (rows, num_inputs), rows x_stride apart, each begins at a multiple of 16 bytes
  const void* w;   // packed, see MatrixView
  float* out;      // (rows, num_outputs), rows out_stride apart
  size_t x_stride, out_stride;
  uint32_t rows, num_inputs, num_outputs;
  const uint32_t* stop;
};

constexpr int kRows = 128, kInputs = 16, kThreads = 256;  // a block's tile: kRows x kPanel, kInputs at a time

// x tile to shared memory, (kRows, kInputs); zeros behind the last row and, in steps of 4, the last input.
static __device__ __forceinline__ void copy_x(float* x_smem, const MatmulArgs& args, uint32_t first_row, uint32_t k0) {
#pragma unroll
  for (int i = 0; i < kRows * kInputs / 4 / kThreads; ++i) {
    const uint32_t at = i * kThreads + threadIdx.x, row = first_row + at / (kInputs / 4),
                   k = k0 + at % (kInputs / 4) * 4;
    const bool inside = row < args.rows && k < args.num_inputs;
    const float* from = args.x + (inside ? row * args.x_stride + k : 0);
    ptx::cp_async16(ptx::smem_u32(x_smem + at * 4), from, inside);
  }
}

// Weights: 128 outputs by 16 inputs of one panel, eight values a thread; the panel's rows lie in a row.
template <class T>
static __device__ __forceinline__ Eight<T> load_w(const T* panel, uint32_t num_inputs, uint32_t k0) {
  const uint32_t at = threadIdx.x * 8;
  if (k0 + at / kPanel >= num_inputs) return Eight<T>{};
  return *reinterpret_cast<const Eight<T>*>(panel + static_cast<size_t>(k0) * kPanel + at);
}

// f32 needs no widening and goes to shared memory by itself.
static __device__ __forceinline__ void copy_w(float* w_smem, const float* panel, uint32_t num_inputs, uint32_t k0) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t at = half * kThreads * 4 + threadIdx.x * 4;
    const bool inside = k0 + at / kPanel < num_inputs;
    ptx::cp_async16(ptx::smem_u32(w_smem + at), panel + (inside ? static_cast<size_t>(k0) * kPanel + at : 0), inside);
  }
}

template <class T>
static __device__ __forceinline__ void store_w(float* w_smem, const Eight<T>& w) {
  float4* to = reinterpret_cast<float4*>(w_smem + threadIdx.x * 8);
  to[0] = make_float4(widen(w.value[0]), widen(w.value[1]), widen(w.value[2]), widen(w.value[3]));
  to[1] = make_float4(widen(w.value[4]), widen(w.value[5]), widen(w.value[6]), widen(w.value[7]));
}

// A block owns kRows rows and one panel of outputs; two buffers, the next tile on its way during the current one.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) matmul_kernel(const __grid_constant__ MatmulArgs args) {
  if (stopped(args.stop)) return;
  const uint32_t first_row = blockIdx.x * kRows, panel = blockIdx.y;
  const int warp = threadIdx.x / kWarp;
  WarpTile tile(threadIdx.x % kWarp);
  tile.row += warp / 2 * 32;
  tile.column += warp % 2 * 64;
  const T* w = static_cast<const T*>(args.w) + static_cast<size_t>(panel) * kPanel * args.num_inputs;

  ptx::SmemCarver smem;
  float* x_smem = smem.take<float>(2 * kRows * kInputs, 128);
  float* w_smem = smem.take<float>(2 * kInputs * kPanel, 128);
  float acc[8][8] = {};
  constexpr bool kWiden = sizeof(T) < sizeof(float);
  copy_x(x_smem, args, first_row, 0);
  if constexpr (kWiden)
    store_w(w_smem, load_w(w, args.num_inputs, 0));
  else
    copy_w(w_smem, w, args.num_inputs, 0);
  ptx::cp_async_commit();

  for (uint32_t k0 = 0, slot = 0; k0 < args.num_inputs; k0 += kInputs, slot ^= 1) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // this tile is there for all; all are done with the other buffer
    const uint32_t next = k0 + kInputs, other = slot ^ 1;
    const bool more = next < args.num_inputs;
    Eight<T> w_rmem;
    if (more) {
      copy_x(x_smem + other * kRows * kInputs, args, first_row, next);
      if constexpr (kWiden)
        w_rmem = load_w(w, args.num_inputs, next);
      else
        copy_w(w_smem + other * kInputs * kPanel, w, args.num_inputs, next);
      ptx::cp_async_commit();
    }
    fma_tile<2>(acc, x_smem + slot * kRows * kInputs + tile.row * kInputs, kInputs,
                w_smem + slot * kInputs * kPanel + tile.column, kPanel,
                static_cast<int>(min(args.num_inputs - k0, static_cast<uint32_t>(kInputs))));
    if constexpr (kWiden)
      if (more) store_w(w_smem + other * kInputs * kPanel, w_rmem);
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t row = first_row + tile.row + i;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const uint32_t column = panel * kPanel + tile.column + j / 4 * 32 + j % 4;
      if (row < args.rows && column < args.num_outputs) args.out[row * args.out_stride + column] = acc[i][j];
    }
  }
}

// Few rows (decoding): bound by reading weights and by the length of one chain, so a block is small, owns 32
// outputs and keeps three tiles of weights on their way. A warp owns a quarter of the rows.
constexpr int kFewRows = 16, kFewOutputs = 32, kFewInputs = 64, kSlots = 4, kFewThreads = 128;

template <class T>
static __device__ __forceinline__ void copy_few(T* w_smem, float* x_smem, const MatmulArgs& args, const T* w,
                                                uint32_t first_row, uint32_t k0) {
  constexpr uint32_t kWide = 16 / sizeof(T);  // values in 16 bytes
#pragma unroll
  for (uint32_t at = threadIdx.x * kWide; at < kFewInputs * kFewOutputs; at += kFewThreads * kWide) {
    const uint32_t k = at / kFewOutputs;
    const bool inside = k0 + k < args.num_inputs;
    const T* from = w + (inside ? static_cast<size_t>(k0 + k) * kPanel + at % kFewOutputs : 0);
    ptx::cp_async16(ptx::smem_u32(w_smem + at), from, inside);
  }
#pragma unroll
  for (uint32_t at = threadIdx.x * 4; at < kFewRows * kFewInputs; at += kFewThreads * 4) {
    const uint32_t row = first_row + at / kFewInputs, k = k0 + at % kFewInputs;
    const bool inside = row < args.rows && k < args.num_inputs;
    ptx::cp_async16(ptx::smem_u32(x_smem + at), args.x + (inside ? row * args.x_stride + k : 0), inside);
  }
}

template <class T>
__global__ void __launch_bounds__(kFewThreads) matmul_few_rows_kernel(const __grid_constant__ MatmulArgs args) {
  if (stopped(args.stop)) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const uint32_t first_output = blockIdx.x * kFewOutputs, first_row = blockIdx.y * kFewRows;
  const T* w = static_cast<const T*>(args.w) + static_cast<size_t>(first_output / kPanel) * kPanel * args.num_inputs +
               first_output % kPanel;
  ptx::SmemCarver smem;
  T* w_smem = smem.take<T>(kSlots * kFewInputs * kFewOutputs, 128);
  float* x_smem = smem.take<float>(kSlots * kFewRows * kFewInputs, 128);
  const auto copy = [&](uint32_t number) {
    const uint32_t slot = number % kSlots;
    if (number * kFewInputs < args.num_inputs)
      copy_few(w_smem + slot * kFewInputs * kFewOutputs, x_smem + slot * kFewRows * kFewInputs, args, w, first_row,
               number * kFewInputs);
    ptx::cp_async_commit();  // empty behind the end, so that the count below stays right
  };
  float acc[kFewRows / 4] = {};
  for (uint32_t number = 0; number < kSlots - 1; ++number) copy(number);

  const uint32_t num_tiles = ceil_div(args.num_inputs, kFewInputs);
  for (uint32_t number = 0; number < num_tiles; ++number) {
    ptx::cp_async_wait<kSlots - 2>();
    __syncthreads();  // this tile is there for all; all are done with the one before, which is filled again
    copy(number + kSlots - 1);
    const T* w_tile = w_smem + number % kSlots * kFewInputs * kFewOutputs + lane;
    const float* x_tile = x_smem + (number % kSlots * kFewRows + warp * kFewRows / 4) * kFewInputs;
    const int num_k = static_cast<int>(min(args.num_inputs - number * kFewInputs, static_cast<uint32_t>(kFewInputs)));
#pragma unroll 8
    for (int k = 0; k < num_k; ++k) {
      const float weight = widen(w_tile[k * kFewOutputs]);
#pragma unroll
      for (int i = 0; i < kFewRows / 4; ++i) acc[i] = fmaf(x_tile[i * kFewInputs + k], weight, acc[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kFewRows / 4; ++i) {
    const uint32_t row = first_row + warp * kFewRows / 4 + i, column = first_output + lane;
    if (row < args.rows && column < args.num_outputs) args.out[row * args.out_stride + column] = acc[i];
  }
}

}  // namespace

void matmul(Queue queue, Rows x, const MatrixView& w, Rows out) {
  const MatmulArgs args{x.data,
                        w.data,
                        out.data,
                        x.stride,
                        out.stride,
                        static_cast<uint32_t>(x.rows),
                        static_cast<uint32_t>(w.num_inputs),
                        static_cast<uint32_t>(w.num_outputs),
                        queue.stop};
  with_dtype(w.dtype, [&](auto value) {
    using T = decltype(value);
    if (x.rows <= 2 * kFewRows) {
      const dim3 grid(ceil_div(w.num_outputs, kFewOutputs), ceil_div(x.rows, kFewRows));
      const size_t smem = kSlots * kFewInputs * (kFewOutputs * sizeof(T) + kFewRows * sizeof(float));
      POC_LAUNCH((matmul_few_rows_kernel<T>), grid, kFewThreads, smem, queue.stream, args);
    } else {
      // Blocks of one panel follow one another, so that its weights are read from the cache.
      const dim3 grid(ceil_div(x.rows, kRows), ceil_div(w.num_outputs, kPanel));
      const size_t smem = 2 * kInputs * (kRows + kPanel) * sizeof(float);
      POC_LAUNCH((matmul_kernel<T>), grid, kThreads, smem, queue.stream, args);
    }
  });
}

}  // namespace poc::cuda
