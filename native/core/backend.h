// What a backend must do: keep weights in its own layout, and run one function per op.
// Numerics of every op: docs/NUMERICS.md. Shapes are (rows, cols), fp32 unless said otherwise.
#pragma once
#include <atomic>
#include <memory>

#include "config.h"
#include "tensor.h"

namespace poc {

// Adds biases, normalises q and k per head, rotates both (RoPE, half pairing) and writes K and V of
// row i into slot `first_slot + i` of the cache, rounded to its dtype. q is changed in place.
struct RopeKvArgs {
  Rows q;                                 // (rows, num_heads * head_dim); none: data null
  Rows k, v;                              // (rows, num_kv_heads * head_dim)
  const float *q_bias, *k_bias, *v_bias;  // null, or one value a column
  const float *q_norm, *k_norm;           // null, or (head_dim)
  float eps;
  const float *cosines, *sines;  // (rows, head_dim / 2)
  KvView cache;
  size_t first_slot;
};

// Causal grouped-query attention of `q.rows` consecutive positions over slots 0..first_position+row.
struct AttentionArgs {
  Rows q;        // (rows, num_heads * head_dim), rotated
  Rows out;      // as q
  KvView cache;  // holds all keys up to the last row's position
  size_t first_position;
  size_t sliding_window;  // 0: none; else keys position - window + 1 .. position
};

// The ops of one run. Each call returns when its result is ready to be used by the next one.
// Throws Cancelled between blocks of work once the run's flag is set. Index lists are host memory.
class Ops {
 public:
  virtual ~Ops() = default;
  // out[i] = table row tokens[i], widened. table (vocab_size, cols)
  virtual void embed(const Matrix& table, const uint32_t* tokens, Rows out) = 0;
  // out[i] = x[rows[i]]
  virtual void gather(Rows x, const uint32_t* rows, Rows out) = 0;
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
  // Copies a row of activations to host memory.
  virtual void download(Rows row, float* out) = 0;
};

// One device: memory, packed weights and the layout of our own cache.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;  // zeroed; throws OUT_OF_MEMORY
  virtual std::unique_ptr<Buffer> upload(const void* host, size_t bytes) = 0;
  // Throws MODEL_NON_FINITE when a weight is NaN or infinite, Cancelled when the flag is set.
  virtual Matrix pack(const TensorView& weight, const std::atomic<bool>& cancelled) = 0;
  virtual Vector widen(const TensorView& weight) = 0;
  virtual std::unique_ptr<Ops> ops(const std::atomic<bool>& cancelled) = 0;
  virtual size_t row_stride(size_t cols) const = 0;  // floats between rows of activations
  // Layout and bytes of one layer's K and V for `capacity` positions; `bytes` is for each of the two.
  virtual KvView kv_layout(const Config& config, Dtype dtype, size_t capacity, size_t* k_bytes,
                           size_t* v_bytes) const = 0;
};

}  // namespace poc
