// gate = silu(gate) * up, and the residual addition (docs/NUMERICS.md, section 8).
#include "../core/elementary.h"
#include "block.cuh"

namespace poc::cuda {
namespace {

constexpr int kThreads = 256;

struct PairArgs {
  float* x;  // (rows, cols), rows x_stride apart; the result too
  const float* y;
  size_t x_stride, y_stride;
  uint32_t cols, blocks_per_row;
  const uint32_t* stop;
};

// Element (row, col) of this thread; false behind a row's end.
static __device__ __forceinline__ bool place(const PairArgs& args, size_t* x_at, size_t* y_at) {
  const uint32_t row = blockIdx.x / args.blocks_per_row;
  const uint32_t col = blockIdx.x % args.blocks_per_row * kThreads + threadIdx.x;
  *x_at = row * args.x_stride + col;
  *y_at = row * args.y_stride + col;
  return col < args.cols;
}

__global__ void __launch_bounds__(kThreads) swiglu_kernel(const __grid_constant__ PairArgs args) {
  if (stopped(args.stop)) return;
  size_t x_at, y_at;
  if (!place(args, &x_at, &y_at)) return;
  const float gate = args.x[x_at];
  const float silu = gate / (1.0f + exp32(0.0f - gate));
  args.x[x_at] = silu * args.y[y_at];
}

__global__ void __launch_bounds__(kThreads) add_kernel(const __grid_constant__ PairArgs args) {
  if (stopped(args.stop)) return;
  size_t x_at, y_at;
  if (place(args, &x_at, &y_at)) args.x[x_at] = args.x[x_at] + args.y[y_at];
}

void launch(void (*kernel)(const PairArgs), Queue queue, Rows x, Rows y) {
  const uint32_t blocks_per_row = ceil_div(x.cols, kThreads);
  const PairArgs args{x.data, y.data, x.stride, y.stride, static_cast<uint32_t>(x.cols), blocks_per_row, queue.stop};
  POC_LAUNCH(kernel, dim3(static_cast<uint32_t>(x.rows) * blocks_per_row), kThreads, 0, queue.stream, args);
}

}  // namespace

void swiglu(Queue queue, Rows gate, Rows up) { launch(swiglu_kernel, queue, gate, up); }
void add(Queue queue, Rows x, Rows y) { launch(add_kernel, queue, x, y); }

}  // namespace poc::cuda
