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
  std::vector<float> rope_frequencies;
};

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
