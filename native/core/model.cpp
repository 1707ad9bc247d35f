#include "model.h"

#include "rope.h"

namespace poc {

std::shared_ptr<const Model> make_model(std::unique_ptr<Backend> backend, const Config& config, Weights weights) {
  auto model = std::make_shared<Model>();
  model->config = config;
  model->backend = std::move(backend);
  model->weights = std::move(weights);
  const std::vector<float> frequencies = rope_frequencies(config);
  model->rope_frequencies = {model->backend->upload(frequencies.data(), frequencies.size() * sizeof(float)),
                             frequencies.size()};
  return model;
}

std::shared_ptr<const Model> load_model(std::unique_ptr<Backend> backend, const Config& config,
                                        const TensorSource& source, const std::atomic<bool>& cancelled,
                                        std::atomic<size_t>& loaded, size_t budget_bytes) {
  Weights weights = load_weights(*backend, config, source, cancelled, loaded, budget_bytes);
  return make_model(std::move(backend), config, std::move(weights));
}

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
