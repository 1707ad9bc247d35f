// What a backend must do: keep weights in its own layout, and run one function per op.
// Numerics of every op: docs/NUMERICS.md. Shapes are (rows, cols), fp32 unless said otherwise.
#pragma once
#include <atomic>
#include <memory>

#include "config.h"
#include "tensor.h"

namespace poc {

// Adds biases, normalises q and k per head, rotates both (RoPE, half pairing), writes K and V of row i
// into slot `slots[i]` of the cache, rounded to its dtype, and copies the rows that are sampled out on
// the way. q, k and v are changed in place.
struct RopeKvArgs {
  Rows q;                                 // (rows, num_heads * head_dim); none: data null
  Rows k, v;                              // (rows, num_kv_heads * head_dim); none: data null
  const float *q_bias, *k_bias, *v_bias;  // null, or one value a column
  const float *q_norm, *k_norm;           // null, or (head_dim)
  float eps;
  const float *cosines, *sines;  // (rows, head_dim / 2)
  KvView cache;                  // k and v null: K and V are not kept
  const uint32_t* slots;         // (rows)
  const int32_t* samples;        // null, or (rows): which sampled row a row becomes; -1: none
  void *sampled_k, *sampled_v;   // (sampled rows, num_kv_heads, head_dim) in the cache's dtype
};

// Keys that a sequence shares with others: those below `end`, and not below the end of the run before, stand at
// slot first_slot + key. Both are multiples of the cache's page_slots(), so that no page is shared in part.
struct SharedKeys {
  size_t end, first_slot;
};

constexpr size_t kMaxSharedRuns = 32;  // of one sequence

// Rows of one sequence at consecutive positions.
struct Segment {
  size_t first_row, rows;              // among the rows of the op
  size_t first_position;               // the first row's, in its sequence
  size_t first_slot;                   // keys that are not shared stand at first_slot + key; a multiple of page_slots()
  const SharedKeys* shared = nullptr;  // host memory; ends ascending
  size_t num_shared = 0;
};

// Causal grouped-query attention; each row sees the keys of its own sequence, up to its own position.
struct AttentionArgs {
  Rows q;                   // (rows, num_heads * head_dim), rotated
  Rows out;                 // as q
  KvView cache;             // holds all keys up to the last row's position
  const Segment* segments;  // host memory; cover all rows, in order
  size_t num_segments;
  size_t sliding_window;  // 0: none; else keys position - window + 1 .. position
};

// Memory of a backend on its way to the host.
class Download {
 public:
  virtual ~Download() = default;
  // Blocks until the bytes have arrived; valid while the object lives. Throws Cancelled, or what went
  // wrong in the work that made them.
  virtual const void* wait() = 0;
};

// The ops of one run, in order. A call may return before its result is there, but the next op sees it.
// Throws Cancelled once the run's flag is set. All pointers are the backend's memory unless said otherwise.
class Ops {
 public:
  virtual ~Ops() = default;
  // out[i] = table row tokens[i], widened. table (vocab_size, cols)
  virtual void embed(const Matrix& table, const uint32_t* tokens, Rows out) = 0;
  // out[i] = x[rows[i]]
  virtual void gather(Rows x, const uint32_t* rows, Rows out) = 0;
  // cosines, sines (num_positions, half) of position times frequency; frequencies (half)
  virtual void rope_table(const Vector& frequencies, const uint32_t* positions, size_t num_positions, float* cosines,
                          float* sines) = 0;
  // out = x * rsqrt(mean(x^2) + eps) * weight, row by row
  virtual void rmsnorm(Rows x, const float* weight, float eps, Rows out) = 0;
  // out (rows, num_outputs) = x (rows, num_inputs) * w^T
  virtual void matmul(Rows x, const Matrix& w, Rows out) = 0;
  virtual void rope_kv(const RopeKvArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  // gate = silu(gate) * up
  virtual void swiglu(Rows gate, Rows up) = 0;
  // x = x + y
  virtual void add(Rows x, Rows y) = 0;
  // Copies K and V rows of `positions` out of a cache, in its dtype: k, v (num_positions, num_kv_heads, head_dim)
  virtual void extract(const KvView& cache, const uint32_t* positions, size_t num_positions, void* k, void* v) = 0;
  // Starts bringing `buffer` to the host, as the ops before this one leave it.
  virtual std::unique_ptr<Download> download(std::shared_ptr<Buffer> buffer, size_t bytes) = 0;
  // How many layers a caller should queue before it waits for the first one's samples; 0 where ops are
  // done when they return.
  virtual size_t layers_ahead() const = 0;
};

// One device: memory, packed weights and the layout of our own cache.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;  // zeroed; throws OUT_OF_MEMORY
  virtual std::unique_ptr<Buffer> upload(const void* host, size_t bytes) = 0;
  // Throws MODEL_NON_FINITE when a weight is NaN or infinite, Cancelled when the flag is set. Weights may
  // be used, and what was wrong with them is known, when finish_weights() has returned.
  virtual Matrix pack(const TensorView& weight, const std::atomic<bool>& cancelled) = 0;
  virtual Vector widen(const TensorView& weight) = 0;
  virtual void finish_weights() = 0;
  virtual size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) const = 0;
  virtual std::unique_ptr<Ops> ops(const std::atomic<bool>& cancelled) = 0;
  virtual size_t row_stride(size_t cols) const = 0;  // floats between rows of activations
  // Threads of the host that work beside its runs may use.
  virtual size_t host_threads() const { return 1; }
  // Layout and bytes of one layer's K and V for `capacity` positions; `bytes` is for each of the two.
  virtual KvView kv_layout(const Config& config, Dtype dtype, size_t capacity, size_t* k_bytes,
                           size_t* v_bytes) const = 0;
};

}  // namespace poc
