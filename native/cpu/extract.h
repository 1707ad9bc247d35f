// Gathers K and V rows of given positions from any cache in host memory; needs no model.
#pragma once
#include "../core/tensor.h"

namespace poc::cpu {

// One of K and V: out (num_positions, num_kv_heads, head_dim) in the cache's dtype.
void extract_rows(const void* data, const KvLayout& layout, const KvView& cache, const uint32_t* positions,
                  size_t num_positions, void* out);

}  // namespace poc::cpu
