// Causal attention of whole prompts over our own cache: useful work as a share of the multiply-add peak. Scores are
// made twice (docs/NUMERICS.md, section 7), so that two thirds is the most there can be.
#include "../../native/cuda/abi.h"
#include "../../native/test/reference.h"
#include "bench.h"

extern "C" const poc::cuda::Api* poc_cuda_api(uint32_t abi_version);

namespace poc::bench {
namespace {

constexpr size_t kHeads = 32, kKvHeads = 8;

// One head of one row by the words of the numerics contract.
std::vector<float> attended(const DeviceMemory& q, const KvView& cache, size_t row, size_t head) {
  const size_t dim = cache.head_dim, keys = row + 1, kv_head = head / (kHeads / kKvHeads);
  std::vector<float> k(keys * dim), v = k, out(dim);
  const auto widen_rows = [&](const void* data, const KvLayout& layout, std::vector<float>& to) {
    const size_t count = kv_index(layout, row, kKvHeads - 1, dim - 1) + 64;
    std::vector<uint16_t> stored(count);
    require(cudaMemcpy(stored.data(), data, count * 2, cudaMemcpyDeviceToHost), "download");
    for (size_t i = 0; i < to.size(); ++i) to[i] = widen_bf16(stored[kv_index(layout, i / dim, kv_head, i % dim)]);
  };
  widen_rows(cache.k, cache.k_layout, k);
  widen_rows(cache.v, cache.v_layout, v);
  const std::vector<float> query = q.download<float>(row * kHeads * dim + head * dim, dim);
  reference::attend(
      query.data(), [&](size_t key) { return k.data() + key * dim; }, [&](size_t key) { return v.data() + key * dim; },
      0, keys, dim, out.data());
  return out;
}

void attention_of(Bench& bench, size_t length, size_t dim) {
  const size_t cols = kHeads * dim;
  size_t k_bytes = 0, v_bytes = 0;
  KvView view = poc_cuda_api(cuda::kAbiVersion)->kv_layout(kKvHeads, dim, Dtype::bf16, length, &k_bytes, &v_bytes);
  DeviceMemory q(length * cols * 4), out(length * cols * 4), k(k_bytes + 128), v(v_bytes + 128);
  q.fill(Dtype::f32, 1, 5);
  k.fill(Dtype::bf16, 1, 6);
  v.fill(Dtype::bf16, 1, 7);
  view.k = k.as<char>(), view.v = v.as<char>();
  const Segment segment{0, length, 0, 0};
  const AttentionArgs args{
      {q.as<float>(), length, cols, cols}, {out.as<float>(), length, cols, cols}, view, &segment, 1, 0};
  const std::string id = text("attention %zu tokens, head_dim %zu", length, dim);
  const auto work = [&] { cuda::attention(bench.queue, args); };
  work();
  require(cudaStreamSynchronize(bench.queue.stream), "attention");
  for (const size_t row : {size_t{0}, length / 2 + 1, length - 1})
    for (const size_t head : {size_t{0}, kHeads - 1}) {
      const std::vector<float> expected = attended(q, view, row, head);
      const std::vector<float> got = out.download<float>(row * cols + head * dim, dim);
      for (size_t d = 0; d < dim; ++d) bench.expect(same_bits(expected[d], got[d]), id);
    }
  const double time = bench.seconds(work, false), tokens = static_cast<double>(length);
  const double rate = 4 * tokens * tokens / 2 * static_cast<double>(cols) / time;
  bench.report(id, rate / bench.fma_rate, "share of peak", 0.4, 0.6,
               text("%.2f TFLOP/s of useful work, %.3f ms", rate / 1e12, time * 1e3));
}

}  // namespace

void bench_attention(Bench& bench) {
  for (const size_t dim : {64, 128})
    for (const size_t length : {2048, 4096, 8192}) attention_of(bench, length, dim);
}

}  // namespace poc::bench
