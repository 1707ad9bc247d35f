#include "extract.h"

#include <cstring>

namespace poc::cpu {

void extract_rows(const void* data, const KvLayout& layout, const KvView& cache, const uint32_t* positions,
                  size_t num_positions, void* out) {
  const size_t bytes = dtype_bytes(cache.dtype), head_bytes = cache.head_dim * bytes;
  const char* in = static_cast<const char*>(data);
  char* to = static_cast<char*>(out);
  for (size_t i = 0; i < num_positions; ++i) {
    for (size_t head = 0; head < cache.num_kv_heads; ++head, to += head_bytes) {
      const char* from = in + kv_index(layout, positions[i], head, 0) * bytes;
      if (layout.dim_stride == 1) {
        memcpy(to, from, head_bytes);
        continue;
      }
      for (size_t d = 0; d < cache.head_dim; ++d) memcpy(to + d * bytes, from + d * layout.dim_stride * bytes, bytes);
    }
  }
}

}  // namespace poc::cpu
