// Rows of the embedding, widened, and rows of activations picked out by number.
#include "block.cuh"

namespace poc::cuda {
namespace {

constexpr int kThreads = 128;

struct EmbedArgs {
  const void* table;  // packed (vocab_size, cols)
  const uint32_t* tokens;
  float* out;  // (rows, cols), rows out_stride apart
  size_t out_stride;
  uint32_t cols;
  const uint32_t* stop;
};

template <class T>
__global__ void __launch_bounds__(kThreads) embed_kernel(const __grid_constant__ EmbedArgs args) {
  if (stopped(args.stop)) return;
  const uint32_t token = args.tokens[blockIdx.x];
  const T* column =
      static_cast<const T*>(args.table) + static_cast<size_t>(token / kPanel) * kPanel * args.cols + token % kPanel;
  for (uint32_t k = threadIdx.x; k < args.cols; k += kThreads)
    args.out[blockIdx.x * args.out_stride + k] = widen(column[static_cast<size_t>(k) * kPanel]);
}

struct GatherArgs {
  const float* x;
  const uint32_t* rows;
  float* out;
  size_t x_stride, out_stride;
  uint32_t cols;
  const uint32_t* stop;
};

__global__ void __launch_bounds__(kThreads) gather_kernel(const __grid_constant__ GatherArgs args) {
  if (stopped(args.stop)) return;
  const float* from = args.x + args.rows[blockIdx.x] * args.x_stride;
  for (uint32_t k = threadIdx.x; k < args.cols; k += kThreads) args.out[blockIdx.x * args.out_stride + k] = from[k];
}

}  // namespace

void embed(Queue queue, const MatrixView& table, const uint32_t* tokens, Rows out) {
  const EmbedArgs args{table.data, tokens, out.data, out.stride, static_cast<uint32_t>(out.cols), queue.stop};
  with_dtype(table.dtype, [&](auto value) {
    POC_LAUNCH((embed_kernel<decltype(value)>), dim3(static_cast<uint32_t>(out.rows)), kThreads, 0, queue.stream, args);
  });
}

void gather(Queue queue, Rows x, const uint32_t* rows, Rows out) {
  const GatherArgs args{x.data, rows, out.data, x.stride, out.stride, static_cast<uint32_t>(x.cols), queue.stop};
  POC_LAUNCH(gather_kernel, dim3(static_cast<uint32_t>(out.rows)), kThreads, 0, queue.stream, args);
}

}  // namespace poc::cuda
