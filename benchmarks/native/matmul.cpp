// matmul THREADS ROUNDS: one large product by our kernels and by rivals in turn, the multiply-add peak beside them
// in each round. Prints seconds and the share of its CPUs that each sample had, as JSON.
#include "limits.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "../../native/core/backend.h"
#include "../../native/cpu/cpu_backend.h"
#ifdef POC_OPENBLAS
#include <cblas.h>
#endif
#ifdef POC_ONEDNN
#include <dnnl.hpp>
#endif

namespace {

constexpr size_t kRows = 512, kOutputs = 5632, kInputs = 2048;
constexpr int kCalls = 2;  // in a sample
const std::atomic<bool> never{false};

struct Contender {
  std::string name, about;
  std::function<void()> run;
  std::function<float(size_t row, size_t output)> result;
  const std::vector<float>* weights;
  std::vector<double> seconds, shares;
};

struct Operands {
  std::vector<float> x, w, w_bf16;  // the last: w cut to bfloat16, as floats
  std::vector<uint16_t> stored_bf16;
};

Operands random_operands() {
  Operands o;
  uint64_t state = 0x2545f4914f6cdd1dull;
  const auto bell = [&state] {  // a sum of four uniform numbers: near normal, deviation 0.58
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const int64_t sum =
        static_cast<int64_t>((state & 0xffff) + (state >> 16 & 0xffff) + (state >> 32 & 0xffff) + (state >> 48));
    return static_cast<float>(sum - 0x20000) * 0x1p-16f;
  };
  for (size_t i = 0; i < kRows * kInputs; ++i) o.x.push_back(bell());
  for (size_t i = 0; i < kOutputs * kInputs; ++i) {
    o.w.push_back(bell());
    uint32_t bits;
    memcpy(&bits, &o.w.back(), 4);
    o.stored_bf16.push_back(static_cast<uint16_t>(bits >> 16));
    bits &= 0xffff0000u;
    float cut;
    memcpy(&cut, &bits, 4);
    o.w_bf16.push_back(cut);
  }
  return o;
}

// The weights are packed once, as at load; the product includes packing the activations.
Contender ours(poc::Backend& backend, const Operands& o, poc::Dtype dtype) {
  const bool bf16 = dtype == poc::Dtype::bf16;
  const void* stored = bf16 ? static_cast<const void*>(o.stored_bf16.data()) : o.w.data();
  const poc::Matrix w = backend.pack({stored, dtype, kOutputs, kInputs, "w"}, never);
  const size_t xs = backend.row_stride(kInputs), ys = backend.row_stride(kOutputs);
  const std::shared_ptr<poc::Buffer> x = backend.allocate(kRows * xs * 4), y = backend.allocate(kRows * ys * 4);
  auto* in = static_cast<float*>(x->data());
  const auto* out = static_cast<const float*>(y->data());
  for (size_t row = 0; row < kRows; ++row) memcpy(in + row * xs, o.x.data() + row * kInputs, kInputs * 4);
  const std::shared_ptr<poc::Ops> ops = backend.ops(never);
  const auto run = [=] {
    ops->matmul({static_cast<float*>(x->data()), kRows, kInputs, xs}, w,
                {static_cast<float*>(y->data()), kRows, kOutputs, ys});
  };
  return {bf16 ? "ours-bf16" : "ours-f32",
          poc::cpu::available_simd()[0],
          run,
          [=](size_t row, size_t output) { return out[row * ys + output]; },
          bf16 ? &o.w_bf16 : &o.w,
          {},
          {}};
}

#ifdef POC_OPENBLAS
Contender openblas(int threads, const Operands& o) {
  openblas_set_num_threads(threads);
  const auto out = std::make_shared<std::vector<float>>(kRows * kOutputs);
  const auto run = [&o, out] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, kOutputs, kInputs, 1, o.x.data(), kInputs, o.w.data(),
                kInputs, 0, out->data(), kOutputs);
  };
  return {"openblas", openblas_get_corename(),
          run,        [out](size_t row, size_t output) { return (*out)[row * kOutputs + output]; },
          &o.w,       {},
          {}};
}
#endif

#ifdef POC_ONEDNN
// Weights in the layout that oneDNN chooses, made once. Its threads are OpenMP's: OMP_NUM_THREADS.
Contender onednn(const Operands& o) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto desc = [](size_t rows, size_t cols, memory::format_tag tag) {
    return memory::desc({static_cast<long>(rows), static_cast<long>(cols)}, memory::data_type::f32, tag);
  };
  const dnnl::matmul::primitive_desc primitive(dnnl::matmul::desc(desc(kRows, kInputs, memory::format_tag::ab),
                                                                  desc(kInputs, kOutputs, memory::format_tag::any),
                                                                  desc(kRows, kOutputs, memory::format_tag::ab)),
                                               engine);
  memory plain(desc(kInputs, kOutputs, memory::format_tag::ba), engine, const_cast<float*>(o.w.data()));
  memory x(desc(kRows, kInputs, memory::format_tag::ab), engine, const_cast<float*>(o.x.data()));
  memory w(primitive.weights_desc(), engine), y(desc(kRows, kOutputs, memory::format_tag::ab), engine);
  dnnl::reorder(plain, w).execute(stream, plain, w);
  stream.wait();
  const dnnl::matmul product(primitive);
  const auto run = [=]() mutable {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
    stream.wait();
  };
  const auto* out = static_cast<const float*>(y.get_data_handle());
  return {"onednn", std::to_string(dnnl_version()->major) + "." + std::to_string(dnnl_version()->minor),
          run,      [=](size_t row, size_t output) { return out[row * kOutputs + output]; },
          &o.w,     {},
          {}};
}
#endif

// Some results against sums in double precision; the bound is that of adding kInputs numbers in float.
void check(const Contender& c, const Operands& o) {
  for (size_t i = 0; i < 500; ++i) {
    const size_t row = i * 7919 % kRows, output = i * 104729 % kOutputs;
    double sum = 0, size = 0;
    for (size_t j = 0; j < kInputs; ++j) {
      const double product = static_cast<double>(o.x[row * kInputs + j]) * (*c.weights)[output * kInputs + j];
      sum += product;
      size += std::fabs(product);
    }
    if (std::fabs(sum - c.result(row, output)) <= size * static_cast<double>(kInputs) * 0x1p-24) continue;
    fprintf(stderr, "%s: wrong result at row %zu, output %zu\n", c.name.c_str(), row, output);
    exit(1);
  }
}

void take(Contender& c, int threads) {
  const bench::Sample s = bench::sample(threads, [&c] {
    for (int call = 0; call < kCalls; ++call) c.run();
  });
  c.seconds.push_back(s.seconds / kCalls);
  c.shares.push_back(s.share);
}

void print_list(const char* name, const std::vector<double>& values) {
  printf("\"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i) printf("%s%.6g", i ? ", " : "", values[i]);
  printf("]");
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1, rounds = argc > 2 ? atoi(argv[2]) : 7;
  const Operands operands = random_operands();
  const auto backend = poc::cpu::make_backend(static_cast<size_t>(threads), "auto");
  std::vector<Contender> contenders = {ours(*backend, operands, poc::Dtype::f32),
                                       ours(*backend, operands, poc::Dtype::bf16)};
#ifdef POC_OPENBLAS
  contenders.push_back(openblas(threads, operands));
#endif
#ifdef POC_ONEDNN
  contenders.push_back(onednn(operands));
#endif
  for (Contender& c : contenders) {
    c.run();
    check(c, operands);
  }
  std::vector<double> peaks;
  for (int round = 0; round < rounds; ++round) {
    double peak = 0;
    bench::sample(threads, [&] { peak = std::max(peak, bench::fma_peak(threads)); });
    peaks.push_back(peak);
    for (Contender& c : contenders) take(c, threads);
  }
  printf("{\"threads\": %d, \"flops\": %.0f, ", threads, 2.0 * kRows * kOutputs * kInputs);
  print_list("peakGflops", peaks);
  printf(", \"contenders\": {");
  for (size_t i = 0; i < contenders.size(); ++i) {
    printf("%s\"%s\": {\"about\": \"%s\", ", i ? ", " : "", contenders[i].name.c_str(), contenders[i].about.c_str());
    print_list("seconds", contenders[i].seconds);
    printf(", ");
    print_list("shares", contenders[i].shares);
    printf("}");
  }
  printf("}}\n");
}
