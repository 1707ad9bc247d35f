// What share of this CPU's fp32 multiply-add peak does the one-chain matmul
// reach? Prints JSON. Each round measures the peak and every case in turn;
// figures are medians over rounds, and a share is taken within one round, so
// that a machine that slows down slows both.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../native/core/backend.h"
#include "../native/cpu/cpu_backend.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// GFLOP/s of independent multiply-adds that stay in registers; one thread.
double peak() {
#if defined(__AVX512F__)
  constexpr int kWidth = 16;
#elif defined(__AVX2__)
  constexpr int kWidth = 8;
#else
  constexpr int kWidth = 4;
#endif
  typedef float Vector __attribute__((vector_size(kWidth * 4)));
  constexpr int kChains = 12;
  constexpr long kSteps = 2000000;
  Vector chains[kChains], a = {}, b = {};
  for (int i = 0; i < kWidth; ++i) a[i] = 0.999f, b[i] = 1e-3f;
  for (int c = 0; c < kChains; ++c) chains[c] = a * static_cast<float>(c + 1);
  const auto from = Clock::now();
  for (long step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * a + b;  // contracted: see CMakeLists.txt
  }
  const double time = seconds(from);
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += chains[c][0];
  if (sum == 12345.0f) std::puts("");  // keeps the loop
  return 2.0 * kWidth * kChains * static_cast<double>(kSteps) / time / 1e9;
}

struct Case {
  poc::Dtype dtype;
  const char* name;
  size_t rows, outputs, inputs;
  std::vector<double> rates, shares;
};

}  // namespace

int main() {
  using poc::Dtype;
  const std::atomic<bool> never{false};
  const auto backend = poc::cpu::make_backend(1, "auto");
  const auto ops = backend->ops(never);
  std::vector<Case> cases = {{Dtype::f32, "f32", 512, 5632, 2048, {}, {}},
                             {Dtype::bf16, "bf16", 512, 5632, 2048, {}, {}},
                             {Dtype::f32, "f32", 512, 2048, 5632, {}, {}},
                             {Dtype::bf16, "bf16", 128, 5632, 2048, {}, {}},
                             {Dtype::bf16, "bf16", 2048, 2048, 2048, {}, {}}};
  std::vector<double> peaks;
  for (int round = 0; round < 7; ++round) {
    peaks.push_back(peak());
    for (Case& c : cases) {
      std::vector<uint32_t> stored(c.outputs * c.inputs,
                                   0x3f803f80u);  // about 1 in every dtype
      for (size_t i = 0; i < stored.size(); ++i) stored[i] ^= static_cast<uint32_t>(i * 2654435761u) & 0x007f007fu;
      const poc::Matrix w = backend->pack({stored.data(), c.dtype, c.outputs, c.inputs, "w"}, never);
      const size_t xs = backend->row_stride(c.inputs), ys = backend->row_stride(c.outputs);
      const auto x = backend->allocate(c.rows * xs * 4), y = backend->allocate(c.rows * ys * 4);
      float* values = static_cast<float*>(x->data());
      for (size_t i = 0; i < c.rows * xs; ++i) values[i] = static_cast<float>(i * 2654435761u % 2000) / 1000.0f - 1;
      const poc::Rows in{values, c.rows, c.inputs, xs}, out{static_cast<float*>(y->data()), c.rows, c.outputs, ys};
      ops->matmul(in, w, out);  // warm
      const auto from = Clock::now();
      ops->matmul(in, w, out);
      const double flops = 2.0 * static_cast<double>(c.rows * c.outputs) * static_cast<double>(c.inputs);
      c.rates.push_back(flops / seconds(from) / 1e9);
      c.shares.push_back(c.rates.back() / peaks.back());
    }
  }
  std::printf(
      "{\"threads\": 1, \"simd\": \"%s\", \"fmaPeakGflops\": %.1f, "
      "\"cases\": [",
      poc::cpu::available_simd()[0].c_str(), median(peaks));
  for (size_t i = 0; i < cases.size(); ++i)
    std::printf(
        "%s{\"weights\": \"%s\", \"rows\": %zu, \"outputs\": %zu, "
        "\"inputs\": %zu, \"gflops\": %.1f, "
        "\"shareOfPeak\": %.3f}",
        i ? ", " : "", cases[i].name, cases[i].rows, cases[i].outputs, cases[i].inputs, median(cases[i].rates),
        median(cases[i].shares));
  std::puts("]}");
}
