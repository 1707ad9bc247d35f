// Matrix products of prompts, as a share of the multiply-add peak, and of decoding, as a share of how fast a copy
// reads.
#include <cmath>

#include "../../native/cuda/block.cuh"
#include "bench.h"

namespace poc::bench {
namespace {

struct Case {
  size_t rows, inputs, outputs;
  Dtype dtype;
};

float widened(const std::vector<uint8_t>& stored, Dtype dtype, size_t i) { return load_float(stored.data(), dtype, i); }

// One output as one ascending chain; weights stand as kernels.h says.
float reference(const DeviceMemory& x, const DeviceMemory& w, const Case& c, size_t row, size_t output) {
  const std::vector<float> values = x.download<float>(row * c.inputs, c.inputs);
  const size_t bytes = dtype_bytes(c.dtype), panel = c.inputs * cuda::kPanel * bytes;
  const std::vector<uint8_t> weights = w.download<uint8_t>(output / cuda::kPanel * panel, panel);
  float sum = 0;
  for (size_t k = 0; k < c.inputs; ++k)
    sum = fmaf(values[k], widened(weights, c.dtype, k * cuda::kPanel + output % cuda::kPanel), sum);
  return sum;
}

// Median seconds; the results are held before.
double measure(Bench& bench, const Case& c, const std::string& id, bool cold) {
  DeviceMemory x(c.rows * c.inputs * 4), w(c.outputs * c.inputs * dtype_bytes(c.dtype)), y(c.rows * c.outputs * 4);
  x.fill(Dtype::f32, 1, 3);
  w.fill(c.dtype, 1 / std::sqrt(static_cast<float>(c.inputs)), 4);
  const Rows in{x.as<float>(), c.rows, c.inputs, c.inputs}, out{y.as<float>(), c.rows, c.outputs, c.outputs};
  const auto work = [&] { cuda::matmul(bench.queue, in, {w.as<char>(), c.dtype, c.outputs, c.inputs}, out); };
  work();
  require(cudaStreamSynchronize(bench.queue.stream), "matmul");
  for (const size_t row : {size_t{0}, c.rows / 2, c.rows - 1})
    for (const size_t output : {size_t{0}, c.outputs / 3, c.outputs - 1}) {
      const float got = y.download<float>(row * c.outputs + output, 1)[0];
      bench.expect(same_bits(got, reference(x, w, c, row, output)), id);
    }
  return bench.seconds(work, cold);
}

}  // namespace

void bench_matmul(Bench& bench) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const char* name = dtype == Dtype::f32 ? "f32" : "bf16";
    for (const auto& [inputs, outputs] : {std::pair<size_t, size_t>{2048, 5632}, {4096, 4096}})
      for (const size_t rows : {512, 2048, 8192}) {
        const std::string id = text("matmul %s %zu x %zu x %zu", name, rows, inputs, outputs);
        const double time = measure(bench, {rows, inputs, outputs, dtype}, id, false);
        const double rate = 2.0 * static_cast<double>(rows * inputs) * static_cast<double>(outputs) / time;
        bench.report(id, rate / bench.fma_rate, "share of peak", 0.6, 0.85,
                     text("%.2f TFLOP/s, %.3f ms", rate / 1e12, time * 1e3));
      }
    for (const auto& [inputs, outputs] : {std::pair<size_t, size_t>{2048, 8192}, {4096, 14336}}) {
      const std::string id = text("decode matmul %s 1 x %zu x %zu", name, inputs, outputs);
      const double time = measure(bench, {1, inputs, outputs, dtype}, id, true);
      const double rate = static_cast<double>(inputs * outputs * dtype_bytes(dtype)) / time;
      bench.report(id, rate / (bench.copy_rate / 2), "share of copy's reads", 0, 0,
                   text("%.0f GB/s of weights, %.1f us", rate / 1e9, time * 1e6));
    }
  }
}

}  // namespace poc::bench
