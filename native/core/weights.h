// A model's weights in a backend's layout, packed once at load.
#pragma once
#include <functional>
#include <vector>

#include "backend.h"

namespace poc {

struct LayerWeights {
  Vector input_norm;              // (hidden_size)
  Matrix q, k, v;                 // (q_size, hidden_size), (kv_size, hidden_size) twice
  Vector q_bias, k_bias, v_bias;  // empty without qkv_bias
  Vector q_norm, k_norm;          // (head_dim); empty without qk_norm
  Matrix o;                       // (hidden_size, q_size)
  Vector post_norm;               // (hidden_size)
  Matrix gate, up, down;          // (intermediate_size, hidden_size) twice, its transpose shape
};

struct Weights {
  Matrix embedding;  // (vocab_size, hidden_size)
  std::vector<LayerWeights> layers;
  Vector final_norm;  // (hidden_size)
  Matrix head;        // (vocab_size, hidden_size); the embedding itself when tied
};

// Finds a stored tensor by its Hugging Face name; throws MODEL_MALFORMED where it is missing.
using TensorSource = std::function<TensorView(const std::string& name)>;

// Packs all weights in compute order. `loaded` counts stored bytes, for progress.
Weights load_weights(Backend& backend, const Config& config, const TensorSource& source,
                     const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded);

}  // namespace poc
