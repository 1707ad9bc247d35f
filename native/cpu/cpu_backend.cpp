#include "cpu_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "../core/error.h"
#include "../core/rope.h"
#include "extract.h"
#include "kernels.h"
#include "pack.h"
#include "page_buffer.h"
#include "simd_dispatch.h"
#include "thread_pool.h"

namespace poc::cpu {
namespace {

// Multiply-adds that one task should have: about 20 us, well above the cost of waking a thread.
constexpr size_t kTaskWork = 1 << 19;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// 64-byte aligned, so that no vector of 64 bytes crosses a cache line.
class HostBuffer : public Buffer {
 public:
  HostBuffer(size_t bytes, bool zeroed) : data_(std::aligned_alloc(64, round_up(std::max<size_t>(bytes, 1), 64))) {
    if (!data_)
      throw Error("OUT_OF_MEMORY", "Could not allocate " + std::to_string(bytes) + " bytes", "memory",
                  std::to_string(bytes) + " bytes", "none");
    if (zeroed) memset(data_, 0, bytes);
  }
  ~HostBuffer() override { std::free(data_); }
  void* data() override { return data_; }

 private:
  void* data_;
};

std::unique_ptr<Buffer> memory(size_t bytes, bool zeroed) {
  constexpr size_t kLarge = size_t{1} << 20;
  if (bytes >= kLarge) return std::make_unique<PageBuffer>(bytes);
  return std::make_unique<HostBuffer>(bytes, zeroed);
}

// The backend's memory is the host's.
class HostDownload : public Download {
 public:
  explicit HostDownload(std::shared_ptr<Buffer> buffer) : buffer_(std::move(buffer)) {}
  const void* wait() override { return buffer_->data(); }

 private:
  std::shared_ptr<Buffer> buffer_;
};

class CpuOps : public Ops {
 public:
  CpuOps(const Kernels& kernels, ThreadPool& pool, const std::atomic<bool>& cancelled)
      : kernels_(kernels), pool_(pool), cancelled_(cancelled) {}

  void embed(const Matrix& table, const uint32_t* tokens, Rows out) override {
    split(out.rows, out.cols, [&](size_t first, size_t last) {
      for (size_t row = first; row < last; ++row) unpack_row(table, tokens[row], out.data + row * out.stride);
    });
  }

  void gather(Rows x, const uint32_t* rows, Rows out) override {
    for (size_t i = 0; i < out.rows; ++i)
      memcpy(out.data + i * out.stride, x.data + rows[i] * x.stride, x.cols * sizeof(float));
  }

  void rope_table(const Vector& frequencies, const uint32_t* positions, size_t num_positions, float* cosines,
                  float* sines) override {
    const size_t half = frequencies.size;
    split(num_positions, 64 * half, [&](size_t first, size_t last) {
      poc::rope_table(frequencies.data(), half, positions + first, last - first, cosines + first * half,
                      sines + first * half);
    });
  }

  void rmsnorm(Rows x, const float* weight, float eps, Rows out) override {
    split(x.rows, 2 * x.cols, [&](size_t first, size_t last) {
      kernels_.rmsnorm(x.from(first, last - first), weight, eps, out.from(first, last - first));
    });
  }

  void matmul(Rows x, const Matrix& w, Rows out) override {
    const size_t tile = kernels_.tile_rows, num_panels = round_up(w.num_outputs, kPanel) / kPanel;
    float* rows = packed_rows(x.rows * x.cols);
    split(round_up(x.rows, tile) / tile, tile * x.cols, [&](size_t first, size_t last) {
      for (size_t row = first * tile; row < std::min(last * tile, x.rows); row += tile)
        kernels_.pack_rows(x, row, std::min(tile, x.rows - row), rows + row * x.cols);
    });
    const MatmulBlock block{rows, x.rows, x.cols, w.buffer->data(), w.dtype, out.data, out.stride};
    const size_t scratch_bytes = kernels_.matmul_scratch(block) * sizeof(float);
    split(
        num_panels, kPanel * x.rows * x.cols,
        [&](size_t first, size_t last) {
          HostBuffer scratch(scratch_bytes, false);
          kernels_.matmul(block, first, last, static_cast<float*>(scratch.data()));
        },
        kPanelsTogether);
  }

  void rope_kv(const RopeKvArgs& args) override {
    const size_t rows = args.q.data ? args.q.rows : args.k.rows;
    split(rows, 8 * (args.q.cols + args.k.cols),
          [&](size_t first, size_t last) { kernels_.rope_kv(args, first, last - first); });
  }

  void attention(const AttentionArgs& args) override {
    for (size_t i = 0; i < args.num_segments; ++i) attend({&args, args.segments[i]});
  }

  void swiglu(Rows gate, Rows up) override {
    split(gate.rows, 16 * gate.cols, [&](size_t first, size_t last) {
      for (size_t row = first; row < last; ++row)
        kernels_.swiglu(gate.data + row * gate.stride, up.data + row * up.stride, gate.cols);
    });
  }

  void add(Rows x, Rows y) override {
    split(x.rows, x.cols, [&](size_t first, size_t last) {
      for (size_t row = first; row < last; ++row)
        kernels_.add(x.data + row * x.stride, y.data + row * y.stride, x.cols);
    });
  }

  void extract(const KvView& cache, const uint32_t* positions, size_t num_positions, void* k, void* v) override {
    extract_rows(cache.k, cache.k_layout, cache, positions, num_positions, k);
    extract_rows(cache.v, cache.v_layout, cache, positions, num_positions, v);
  }

  std::unique_ptr<Download> download(std::shared_ptr<Buffer> buffer, size_t) override {
    return std::make_unique<HostDownload>(std::move(buffer));
  }

  size_t layers_ahead() const override { return 0; }

 private:
  // One sequence's rows. Later rows see more keys: handing them out first leaves no long task at the end.
  void attend(AttentionBlock block) {
    const AttentionArgs& args = *block.args;
    const size_t head_dim = args.cache.head_dim, num_heads = args.q.cols / head_dim, rows = block.segment.rows;
    if (rows == 1) return attend_one(block, num_heads);
    const size_t num_blocks = round_up(rows, kernels_.tile_rows) / kernels_.tile_rows;
    const size_t work = 2 * head_dim * (block.segment.first_position + rows) * std::min(rows, kernels_.tile_rows);
    split(num_heads * num_blocks, work, [&](size_t first, size_t last) {
      HostBuffer scratch(kernels_.attention_scratch(block) * sizeof(float), false);
      AttentionBlock part = block;
      part.scratch = static_cast<float*>(scratch.data());
      for (size_t i = first; i < last; ++i) {
        part.head = i % num_heads;
        part.first_row = (num_blocks - 1 - i / num_heads) * kernels_.tile_rows;
        part.rows = std::min(kernels_.tile_rows, rows - part.first_row);
        kernels_.attention(part);
      }
    });
  }

  // One row, as in decoding: heads that share a KV head go through its keys together, as long as there are blocks for
  // all threads.
  void attend_one(const AttentionBlock& block, size_t num_heads) {
    const AttentionArgs& args = *block.args;
    const size_t group = num_heads / args.cache.num_kv_heads;
    const size_t heads = std::max<size_t>(1, std::min({group, kernels_.tile_rows, num_heads / pool_.num_threads()}));
    const size_t per_group = round_up(group, heads) / heads;
    const size_t work = 2 * args.cache.head_dim * (block.segment.first_position + 1) * heads;
    split(args.cache.num_kv_heads * per_group, work, [&](size_t first, size_t last) {
      HostBuffer scratch(kernels_.attention_scratch(block) * sizeof(float), false);
      AttentionBlock part = block;
      part.scratch = static_cast<float*>(scratch.data());
      part.rows = 1;
      for (size_t i = first; i < last; ++i) {
        const size_t first_head = i % per_group * heads;
        part.head = i / per_group * group + first_head;
        part.heads = std::min(heads, group - first_head);
        kernels_.attention(part);
      }
    });
  }

  // Calls body(first, last) for ranges of 0..count whose work is worth a task. How items are grouped
  // never changes a bit: each item's result is its own.
  // `together`: items that are faster in one task, where there are enough of them for all threads.
  template <class F>
  void split(size_t count, size_t work_per_item, F body, size_t together = 1) {
    const size_t per_task = std::max({size_t{1}, kTaskWork / std::max<size_t>(1, work_per_item),
                                      std::min(together, count / (4 * pool_.num_threads()))});
    const size_t num_tasks = (count + per_task - 1) / per_task;
    pool_.parallel_for(num_tasks, cancelled_,
                       [&](size_t task) { body(task * per_task, std::min(count, (task + 1) * per_task)); });
  }

  // Memory for a product's packed rows, kept from one to the next: fresh pages cost more than small products.
  float* packed_rows(size_t floats) {
    if (floats > packed_floats_) {
      packed_.reset();
      packed_ = memory(floats * sizeof(float), false);
      packed_floats_ = floats;
    }
    return static_cast<float*>(packed_->data());
  }

  const Kernels& kernels_;
  ThreadPool& pool_;
  const std::atomic<bool>& cancelled_;
  std::unique_ptr<Buffer> packed_;
  size_t packed_floats_ = 0;
};

class CpuBackend : public Backend {
 public:
  CpuBackend(size_t num_threads, const Kernels& kernels) : kernels_(kernels), pool_(num_threads) {}

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return memory(bytes, true); }

  std::unique_ptr<Buffer> upload(const void* host, size_t bytes) override {
    auto buffer = std::make_unique<HostBuffer>(bytes, false);
    if (bytes > 0) memcpy(buffer->data(), host, bytes);  // null is no source, not even of nothing
    return buffer;
  }

  Matrix pack(const TensorView& weight, const std::atomic<bool>& cancelled) override {
    const std::shared_ptr<Buffer> buffer = memory(cpu::packed_bytes(weight.rows, weight.cols, weight.dtype), false);
    std::atomic<bool> finite{true};
    pool_.parallel_for(round_up(weight.rows, kPanel) / kPanel, cancelled, [&](size_t panel) {
      if (!pack_panels(weight, panel, panel + 1, buffer->data())) finite = false;
    });
    if (!finite) throw non_finite(weight);
    return {buffer, weight.dtype, weight.rows, weight.cols};
  }

  Vector widen(const TensorView& weight) override {
    auto buffer = std::make_shared<HostBuffer>(weight.cols * sizeof(float), false);
    float* out = static_cast<float*>(buffer->data());
    for (size_t i = 0; i < weight.cols; ++i) {
      out[i] = load_float(weight.data, weight.dtype, i);
      if (!(out[i] - out[i] == 0)) throw non_finite(weight);
    }
    return {buffer, weight.cols};
  }

  void finish_weights() override {}

  size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) const override {
    return cpu::packed_bytes(num_outputs, num_inputs, dtype);
  }

  std::unique_ptr<Ops> ops(const std::atomic<bool>& cancelled) override {
    return std::make_unique<CpuOps>(kernels_, pool_, cancelled);
  }

  // Rows of whole pages would all begin in the same few lines of the first-level cache.
  size_t row_stride(size_t cols) const override {
    const size_t stride = round_up(cols, kPanel);
    return stride % 1024 == 0 ? stride + kPanel : stride;
  }

  size_t host_threads() const override { return pool_.num_threads(); }

  // K: panels of 32 positions, each (head, dim, 32), what a tile of scores reads. V: (head, position,
  // padded dim), what a tile of weighted sums reads.
  KvView kv_layout(const Config& config, Dtype dtype, size_t capacity, size_t* k_bytes,
                   size_t* v_bytes) const override {
    const size_t heads = config.num_kv_heads, dim = config.head_dim, padded = round_up(dim, 16);
    const size_t slots = round_up(std::max<size_t>(capacity, 1), kPanel);
    *k_bytes = slots * heads * dim * dtype_bytes(dtype);
    *v_bytes = slots * heads * padded * dtype_bytes(dtype);
    KvView view;
    view.k_layout = {kPanel, kPanel * heads * dim, 1, kPanel * dim, kPanel, nullptr};
    view.v_layout = {slots, heads * slots * padded, padded, slots * padded, 1, nullptr};
    view.dtype = dtype;
    view.num_kv_heads = heads;
    view.head_dim = dim;
    return view;
  }

 private:
  static Error non_finite(const TensorView& weight) {
    return wrong_value("MODEL_NON_FINITE", weight.name, "finite in every value", "a NaN or an infinity");
  }

  const Kernels& kernels_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(size_t num_threads, const std::string& simd) {
  return std::make_unique<CpuBackend>(num_threads, kernels_for(simd));
}

}  // namespace poc::cpu
