// out = x * rsqrt(mean(x^2) + eps) * weight, a warp a row.
#include "row_norm.cuh"

namespace poc::cuda {
namespace {

constexpr int kWarps = 4;

struct RmsnormArgs {
  const float *x, *weight;  // (rows, cols), rows x_stride apart; (cols)
  float* out;
  size_t x_stride, out_stride;
  uint32_t rows, cols;
  float eps;
  const uint32_t* stop;
};

__global__ void __launch_bounds__(kWarps* kWarp) rmsnorm_kernel(const __grid_constant__ RmsnormArgs args) {
  if (stopped(args.stop)) return;
  const uint32_t row = blockIdx.x * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= args.rows) return;
  const float* x = args.x + row * args.x_stride;
  float* out = args.out + row * args.out_stride;
  const float scale = inverse_rms(x, args.cols, args.eps, lane);
  for (uint32_t i = lane; i < args.cols; i += kWarp) out[i] = (x[i] * scale) * args.weight[i];
}

}  // namespace

void rmsnorm(Queue queue, Rows x, const float* weight, float eps, Rows out) {
  const RmsnormArgs args{
      x.data, weight,    out.data, x.stride, out.stride, static_cast<uint32_t>(x.rows), static_cast<uint32_t>(x.cols),
      eps,    queue.stop};
  POC_LAUNCH(rmsnorm_kernel, dim3(ceil_div(x.rows, kWarps)), kWarps * kWarp, 0, queue.stream, args);
}

}  // namespace poc::cuda
