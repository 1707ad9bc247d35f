#include "weights.h"

#include <algorithm>
#include <exception>

#include "error.h"

namespace poc {
namespace {

// Checks each tensor's shape as it is taken, so that no op ever sees a size it does not expect.
struct Loader {
  Backend& backend;
  const TensorSource& source;
  const std::atomic<bool>& cancelled;
  std::atomic<size_t>& loaded;

  // Weights made so far are freed after this, so nothing may be writing to them any more.
  ~Loader() {
    if (std::uncaught_exceptions() == 0) return;
    try {
      backend.finish_weights();
    } catch (...) {  // the first error is the one to tell
    }
  }

  TensorView take(const std::string& name, size_t rows, size_t cols) {
    if (cancelled) throw Cancelled();
    const TensorView view = source(name);
    const auto shape = [](size_t r, size_t c) { return "(" + std::to_string(r) + ", " + std::to_string(c) + ")"; };
    if (view.rows != rows || view.cols != cols)
      throw wrong_value("MODEL_MALFORMED", name, shape(rows, cols), shape(view.rows, view.cols));
    return view;
  }
  Matrix matrix(const std::string& name, size_t rows, size_t cols) {
    const TensorView view = take(name, rows, cols);
    Matrix packed = backend.pack(view, cancelled);
    loaded += rows * cols * dtype_bytes(view.dtype);
    return packed;
  }
  Vector vector(const std::string& name, size_t size) {
    const TensorView view = take(name, 1, size);
    loaded += size * dtype_bytes(view.dtype);
    return backend.widen(view);
  }
};

size_t packed_bytes(const Backend& backend, const Matrix& m) {
  return m.num_outputs > 0 ? backend.packed_bytes(m.num_outputs, m.num_inputs, m.dtype) : 0;
}

size_t packed_bytes(const Backend& backend, const LayerWeights& w) {
  size_t bytes = 0;
  for (const Matrix* m : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down}) bytes += packed_bytes(backend, *m);
  for (const Vector* v : {&w.input_norm, &w.q_bias, &w.k_bias, &w.v_bias, &w.q_norm, &w.k_norm, &w.post_norm})
    bytes += v->size * sizeof(float);
  return bytes;
}

}  // namespace

LayerWeights load_layer(Backend& backend, const Config& c, const TensorSource& source, size_t layer,
                        const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded) {
  LayerWeights w;
  Loader load{backend, source, cancelled, loaded};
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string attn = prefix + "self_attn.", mlp = prefix + "mlp.";
  w.input_norm = load.vector(prefix + "input_layernorm.weight", c.hidden_size);
  w.q = load.matrix(attn + "q_proj.weight", c.q_size(), c.hidden_size);
  w.k = load.matrix(attn + "k_proj.weight", c.kv_size(), c.hidden_size);
  w.v = load.matrix(attn + "v_proj.weight", c.kv_size(), c.hidden_size);
  if (c.qkv_bias) {
    w.q_bias = load.vector(attn + "q_proj.bias", c.q_size());
    w.k_bias = load.vector(attn + "k_proj.bias", c.kv_size());
    w.v_bias = load.vector(attn + "v_proj.bias", c.kv_size());
  }
  if (c.qk_norm) {
    w.q_norm = load.vector(attn + "q_norm.weight", c.head_dim);
    w.k_norm = load.vector(attn + "k_norm.weight", c.head_dim);
  }
  w.o = load.matrix(attn + "o_proj.weight", c.hidden_size, c.q_size());
  w.post_norm = load.vector(prefix + "post_attention_layernorm.weight", c.hidden_size);
  w.gate = load.matrix(mlp + "gate_proj.weight", c.intermediate_size, c.hidden_size);
  w.up = load.matrix(mlp + "up_proj.weight", c.intermediate_size, c.hidden_size);
  w.down = load.matrix(mlp + "down_proj.weight", c.hidden_size, c.intermediate_size);
  backend.finish_weights();
  return w;
}

Weights load_weights(Backend& backend, const Config& config, const TensorSource& source,
                     const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded, size_t budget_bytes) {
  Weights w;
  Loader load{backend, source, cancelled, loaded};
  w.embedding = load.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  w.final_norm = load.vector("model.norm.weight", config.hidden_size);
  w.head = config.tied_head ? w.embedding : load.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  backend.finish_weights();
  size_t fixed = packed_bytes(backend, w.embedding) + w.final_norm.size * sizeof(float);
  if (!config.tied_head) fixed += packed_bytes(backend, w.head);
  size_t all = fixed, largest = 0;
  for (size_t layer = 0; layer < config.num_layers; ++layer) {
    LayerWeights weights = load_layer(backend, config, source, layer, cancelled, loaded);
    const size_t bytes = packed_bytes(backend, weights);
    all += bytes;
    largest = std::max(largest, bytes);
    if (fixed + 2 * largest > budget_bytes)
      throw wrong_value("INVALID_ARGUMENT", "weightBudgetBytes", "at least " + std::to_string(fixed + 2 * largest),
                        std::to_string(budget_bytes));
    // Layers are of one size: when the next one will not fit, none is kept.
    const bool more = layer + 1 < config.num_layers;
    if (all + (more ? bytes : 0) > budget_bytes) w.source = source;
    if (w.streamed())
      w.layers.clear();
    else
      w.layers.push_back(std::move(weights));
  }
  return w;
}

}  // namespace poc
