// The launchers behind the CUDA ops, one file each; they only queue work. Every result element is computed
// by one thread or warp in the order of docs/NUMERICS.md, whatever the grid: no atomics, no split sums.
#pragma once
#include "../core/backend.h"
#include "ptx/ptx.h"

namespace poc::cuda {

// Where kernels are queued, and the word that makes those of one run end at once when it is not zero.
struct Queue {
  cudaStream_t stream;
  const uint32_t* stop;
};

// A packed matrix: panels of kPanel outputs; in a panel, kPanel values for each input k, ascending. The
// last panel is filled with zeros.
struct MatrixView {
  const void* data;
  Dtype dtype;
  size_t num_outputs, num_inputs;
};

constexpr int kPanel = 128;
// K of our own cache: pages of kPageSlots positions, each (head, dim, kPageSlots). V: (head, slot, dim padded
// to kValuePad).
constexpr int kPageSlots = 64;
constexpr int kValuePad = 8;

POC_SHARED uint32_t ceil_div(size_t n, size_t by) { return static_cast<uint32_t>((n + by - 1) / by); }

void embed(Queue queue, const MatrixView& table, const uint32_t* tokens, Rows out);
void gather(Queue queue, Rows x, const uint32_t* rows, Rows out);
void rope_table(Queue queue, const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions,
                float* cosines, float* sines);
void rmsnorm(Queue queue, Rows x, const float* weight, float eps, Rows out);
void matmul(Queue queue, Rows x, const MatrixView& w, Rows out);
void rope_kv(Queue queue, const RopeKvArgs& args);
void attention(Queue queue, const AttentionArgs& args);
void swiglu(Queue queue, Rows gate, Rows up);
void add(Queue queue, Rows x, Rows y);
// One of K and V: out (num_positions, num_kv_heads, head_dim) in the cache's dtype; positions in device memory.
void extract(Queue queue, const void* data, const KvLayout& layout, const KvView& cache, const uint32_t* positions,
             size_t num_positions, void* out);
// Rows [first_row, first_row + rows) of a stored matrix, row-major in device memory, into `packed`; sets
// *not_finite where a value is NaN or infinite.
void pack(cudaStream_t stream, const void* stored, size_t first_row, size_t rows, const MatrixView& packed,
          uint32_t* not_finite);

}  // namespace poc::cuda
