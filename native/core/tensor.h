// Plain views of data. They own nothing; whoever made them says how long they live.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dtype.h"

namespace poc {

// A stored weight: row-major `data` of `rows` x `cols` values (a vector has one row).
struct TensorView {
  const void* data = nullptr;
  Dtype dtype = Dtype::f32;
  size_t rows = 0, cols = 0;
  const char* name = "";
};

// fp32 activations on the backend's side: `rows` x `cols`, each row `stride` floats apart.
struct Rows {
  float* data = nullptr;
  size_t rows = 0, cols = 0, stride = 0;
  Rows from(size_t row, size_t count) const { return {data + row * stride, count, cols, stride}; }
};

// Memory of a backend, released with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
};

// A weight matrix (num_outputs, num_inputs) in a backend's packed layout, in its stored dtype.
struct Matrix {
  std::shared_ptr<Buffer> buffer;
  Dtype dtype = Dtype::f32;
  size_t num_outputs = 0, num_inputs = 0;
};

// A weight vector widened to fp32; empty when the model has none.
struct Vector {
  std::shared_ptr<Buffer> buffer;
  size_t size = 0;
  const float* data() const { return buffer ? static_cast<const float*>(buffer->data()) : nullptr; }
};

// Where one KV vector element lives, for any cache, ours or a foreign engine's:
//   data[page * page_stride + slot * slot_stride + head * head_stride + dim * dim_stride]
// with page = block_table[position / page_size] (or position / page_size where there is no table)
// and slot = position % page_size. Strides count elements. Contiguous caches have a single page.
// Where the head dimension is split, dim * dim_stride becomes
//   dim / dim_split * split_stride + dim % dim_split * dim_stride
struct KvLayout {
  size_t page_size = 0;
  size_t page_stride = 0, slot_stride = 0, head_stride = 0, dim_stride = 0;
  const uint32_t* block_table = nullptr;
  size_t dim_split = 0;     // dims in one group; 0: not split
  size_t split_stride = 0;  // from one group to the next
};

POC_SHARED size_t kv_index(const KvLayout& layout, size_t position, size_t head, size_t dim) {
  const size_t page = position / layout.page_size;
  const size_t group = layout.dim_split ? dim / layout.dim_split : 0;
  return (layout.block_table ? layout.block_table[page] : page) * layout.page_stride +
         (position % layout.page_size) * layout.slot_stride + head * layout.head_stride + group * layout.split_stride +
         (dim - group * layout.dim_split) * layout.dim_stride;
}

// The K and V of one layer.
struct KvView {
  void* k = nullptr;
  void* v = nullptr;
  KvLayout k_layout, v_layout;
  Dtype dtype = Dtype::f32;
  size_t num_kv_heads = 0, head_dim = 0;

  // Positions in a page of K, the unit in which sequences may share a cache.
  size_t page_slots() const { return k_layout.page_size; }
  size_t row_bytes() const { return num_kv_heads * head_dim * dtype_bytes(dtype); }
};

}  // namespace poc
