#include "extract.h"

#include <algorithm>
#include <cstring>

namespace poc::cpu {

void extract_rows(const void* data, const KvLayout& layout, const KvView& cache, const uint32_t* positions,
                  size_t num_positions, void* out) {
  const size_t bytes = dtype_bytes(cache.dtype), group = layout.dim_split ? layout.dim_split : cache.head_dim;
  const char* in = static_cast<const char*>(data);
  char* to = static_cast<char*>(out);
  for (size_t i = 0; i < num_positions; ++i) {
    for (size_t head = 0; head < cache.num_kv_heads; ++head) {
      size_t at = kv_index(layout, positions[i], head, 0);
      for (size_t dim = 0; dim < cache.head_dim; dim += group, at += layout.split_stride) {
        const size_t count = std::min(group, cache.head_dim - dim);
        const char* from = in + at * bytes;
        if (layout.dim_stride == 1)
          memcpy(to, from, count * bytes);
        else
          for (size_t d = 0; d < count; ++d) memcpy(to + d * bytes, from + d * layout.dim_stride * bytes, bytes);
        to += count * bytes;
      }
    }
  }
}

}  // namespace poc::cpu
