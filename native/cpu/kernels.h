// The ops' inner parts, one table per instruction set. They work on one block, single-threaded, on
// memory that the caller provides; splitting work and threads belong to cpu_backend.cpp.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../core/backend.h"

namespace poc::cpu {

// Packed matrices: panels of 32 outputs; in a panel, 32 values for each input k, ascending. The last
// panel is filled with zeros.
constexpr size_t kPanel = 32;
// Panels that go faster together: they share rows in the first-level cache.
constexpr size_t kPanelsTogether = 4;

struct MatmulBlock {
  const float* x;  // packed rows, see pack_rows
  size_t rows, num_inputs;
  const void* w;  // packed matrix
  Dtype dtype;
  float* out;  // row stride `out_stride`, a multiple of kPanel
  size_t out_stride;
};

// Queries that go through the keys together, at most tile_rows: consecutive rows of the segment in one head,
// or several heads of one row that share a KV head.
struct AttentionBlock {
  const AttentionArgs* args;
  Segment segment;
  size_t head = 0, heads = 1;
  size_t first_row = 0, rows = 0;  // of the segment; 1 where there are several heads
  float* scratch = nullptr;        // attention_scratch() floats
};

struct Kernels {
  const char* name;
  size_t tile_rows;
  // Rows in blocks of tile_rows; a block holds, for each k ascending, the value of each of its rows.
  void (*pack_rows)(Rows x, size_t first_row, size_t rows, float* out);
  // Panels [first_panel, last_panel) of out = x w^T; scratch of matmul_scratch() floats.
  void (*matmul)(const MatmulBlock& block, size_t first_panel, size_t last_panel, float* scratch);
  size_t (*matmul_scratch)(const MatmulBlock& block);
  void (*rmsnorm)(Rows x, const float* weight, float eps, Rows out);
  void (*rope_kv)(const RopeKvArgs& args, size_t first_row, size_t rows);
  void (*attention)(const AttentionBlock& block);
  size_t (*attention_scratch)(const AttentionBlock& block);
  void (*swiglu)(float* gate, const float* up, size_t count);
  void (*add)(float* x, const float* y, size_t count);
  void (*exp)(float* x, size_t count);  // for tests
};

}  // namespace poc::cpu
