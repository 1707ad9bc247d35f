// The limits that the other benchmarks are measured against: copying within device memory, and fused
// multiply-adds that stay in registers.
#include "bench.h"

namespace poc::bench {
namespace {

constexpr int kChains = 16, kSteps = 512, kUnroll = 16, kThreads = 256;

struct PeakArgs {
  float a, b;
  float* out;
};

__global__ void __launch_bounds__(kThreads) peak_kernel(const __grid_constant__ PeakArgs args) {
  float chains[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) chains[i] = static_cast<float>(threadIdx.x + i);
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int repeat = 0; repeat < kUnroll; ++repeat)
#pragma unroll
      for (int i = 0; i < kChains; ++i) chains[i] = fmaf(chains[i], args.a, args.b);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += chains[i];
  args.out[blockIdx.x * kThreads + threadIdx.x] = sum;
}

}  // namespace

void bench_rates(Bench& bench) {
  const size_t bytes = size_t{1} << 30;
  const DeviceMemory to(bytes);
  DeviceMemory from(bytes);
  from.fill(Dtype::f32, 1, 1);
  const double copy = bench.seconds(
      [&] {
        require(cudaMemcpyAsync(to.as<char>(), from.as<char>(), bytes, cudaMemcpyDeviceToDevice, bench.queue.stream),
                "copy");
      },
      false, 21);
  bench.expect(from.download<uint32_t>(12345, 999) == to.download<uint32_t>(12345, 999), "copy");
  bench.copy_rate = 2.0 * static_cast<double>(bytes) / copy;
  bench.report("copy bandwidth", bench.copy_rate / 1e9, "GB/s", 0, 0, "1 GiB within the device, read + written");

  const uint32_t blocks = static_cast<uint32_t>(bench.device.multiProcessorCount) * 32;
  const DeviceMemory out(size_t{blocks} * kThreads * sizeof(float));
  const PeakArgs args{0.999f, 1e-3f, out.as<float>()};
  const double peak =
      bench.seconds([&] { POC_LAUNCH(peak_kernel, dim3(blocks), kThreads, 0, bench.queue.stream, args); }, false, 21);
  float expected = 0;
  for (int i = 0; i < kChains; ++i) {
    float chain = static_cast<float>(5 + i);
    for (int step = 0; step < kSteps * kUnroll; ++step) chain = fmaf(chain, args.a, args.b);
    expected += chain;
  }
  bench.expect(same_bits(out.download<float>(5, 1)[0], expected), "multiply-add peak");
  bench.fma_rate = 2.0 * kChains * kSteps * kUnroll * blocks * kThreads / peak;
  bench.report("fp32 multiply-add peak", bench.fma_rate / 1e12, "TFLOP/s", 0, 0, "independent chains in registers");
}

}  // namespace poc::bench
