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

// Finds a stored tensor by its Hugging Face name; throws MODEL_MALFORMED where it is missing. The view
// may be good only until the next call.
using TensorSource = std::function<TensorView(const std::string& name)>;

struct Weights {
  Matrix embedding;                  // (vocab_size, hidden_size)
  std::vector<LayerWeights> layers;  // all of them; none when they are streamed
  Vector final_norm;                 // (hidden_size)
  Matrix head;                       // (vocab_size, hidden_size); the embedding itself when tied
  TensorSource source;               // where layers are loaded from again; empty unless streamed

  bool streamed() const { return static_cast<bool>(source); }
};

constexpr size_t kNoBudget = SIZE_MAX;

// Packs all weights in compute order and checks every value. `loaded` counts stored bytes, for progress.
// When their packed bytes are over `budget_bytes`, the layers are not kept but streamed by each pass
// (layers.h), two at a time; throws INVALID_ARGUMENT when not even that fits.
Weights load_weights(Backend& backend, const Config& config, const TensorSource& source,
                     const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded, size_t budget_bytes = kNoBudget);

LayerWeights load_layer(Backend& backend, const Config& config, const TensorSource& source, size_t layer,
                        const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded);

}  // namespace poc
