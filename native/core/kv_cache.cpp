#include "model.h"

namespace poc {

KvCache::KvCache(const Model& model, Dtype dtype, size_t capacity, size_t num_layers) : capacity_(capacity) {
  for (size_t layer = 0; layer < num_layers; ++layer) {
    size_t k_bytes = 0, v_bytes = 0;
    KvView view = model.backend->kv_layout(model.config, dtype, capacity, &k_bytes, &v_bytes);
    buffers_.push_back(model.backend->allocate(k_bytes));
    view.k = buffers_.back()->data();
    buffers_.push_back(model.backend->allocate(v_bytes));
    view.v = buffers_.back()->data();
    views_.push_back(view);
  }
}

}  // namespace poc
