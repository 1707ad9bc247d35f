// A loaded model: config, packed weights, RoPE frequencies and the backend that holds them. Immutable.
#pragma once
#include <memory>
#include <vector>

#include "backend.h"
#include "weights.h"

namespace poc {

struct Model {
  Config config;
  std::unique_ptr<Backend> backend;
  Weights weights;
  Vector rope_frequencies;  // (head_dim / 2)
};

std::shared_ptr<const Model> make_model(std::unique_ptr<Backend> backend, const Config& config, Weights weights);

// Loads a model whose weights `source` has; see load_weights().
std::shared_ptr<const Model> load_model(std::unique_ptr<Backend> backend, const Config& config,
                                        const TensorSource& source, const std::atomic<bool>& cancelled,
                                        std::atomic<size_t>& loaded, size_t budget_bytes = kNoBudget);

// K and V of `num_layers` layers for `capacity` positions. A pass that needs one layer at a time
// (verification) takes num_layers = 1: layer l then overwrites layer l - 1.
class KvCache {
 public:
  KvCache(const Model& model, Dtype dtype, size_t capacity, size_t num_layers);
  KvView layer(size_t layer) const { return views_[layer % views_.size()]; }
  size_t capacity() const { return capacity_; }

 private:
  size_t capacity_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<KvView> views_;
};

}  // namespace poc
