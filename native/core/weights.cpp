#include "weights.h"

#include <algorithm>
#include <exception>

#include "error.h"

namespace poc {
namespace {

size_t bytes_of(const Backend& backend, const Matrix& m) {
  return m.num_outputs > 0 ? backend.packed_bytes(m.num_outputs, m.num_inputs, m.dtype) : 0;
}

// Packs a layer whenever it is asked for.
class PackedAnew : public LayerSource {
 public:
  PackedAnew(Backend& backend, const Config& config, TensorSource source)
      : backend_(backend), config_(config), source_(std::move(source)) {}

  LayerWeights load(size_t layer, const std::atomic<bool>& cancelled) override {
    std::atomic<size_t> loaded{0};
    PackingSource packing(backend_, source_, cancelled, loaded);
    LayerWeights weights = take_layer(packing, config_, layer);
    backend_.finish_weights();
    return weights;
  }
  bool in_memory(size_t) const override { return false; }

 private:
  Backend& backend_;
  const Config config_;
  const TensorSource source_;
};

}  // namespace

TensorView find_tensor(const TensorSource& source, const std::string& name, size_t rows, size_t cols) {
  const TensorView view = source(name);
  const auto shape = [](size_t r, size_t c) { return "(" + std::to_string(r) + ", " + std::to_string(c) + ")"; };
  if (view.rows != rows || view.cols != cols)
    throw wrong_value("MODEL_MALFORMED", name, shape(rows, cols), shape(view.rows, view.cols));
  return view;
}

// Weights made so far are freed after this, so nothing may be writing to them any more.
PackingSource::~PackingSource() {
  if (std::uncaught_exceptions() == 0) return;
  try {
    backend_.finish_weights();
  } catch (...) {  // the first error is the one to tell
  }
}

TensorView PackingSource::take(const std::string& name, size_t rows, size_t cols) {
  if (cancelled_) throw Cancelled();
  return find_tensor(source_, name, rows, cols);
}

Matrix PackingSource::matrix(const std::string& name, size_t num_outputs, size_t num_inputs) {
  const TensorView view = take(name, num_outputs, num_inputs);
  Matrix packed = backend_.pack(view, cancelled_);
  loaded_ += num_outputs * num_inputs * dtype_bytes(view.dtype);
  return packed;
}

Vector PackingSource::vector(const std::string& name, size_t size) {
  const TensorView view = take(name, 1, size);
  loaded_ += size * dtype_bytes(view.dtype);
  return backend_.widen(view);
}

LayerWeights take_layer(WeightSource& source, const Config& c, size_t layer) {
  LayerWeights w;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string attn = prefix + "self_attn.", mlp = prefix + "mlp.";
  w.input_norm = source.vector(prefix + "input_layernorm.weight", c.hidden_size);
  w.q = source.matrix(attn + "q_proj.weight", c.q_size(), c.hidden_size);
  w.k = source.matrix(attn + "k_proj.weight", c.kv_size(), c.hidden_size);
  w.v = source.matrix(attn + "v_proj.weight", c.kv_size(), c.hidden_size);
  if (c.qkv_bias) {
    w.q_bias = source.vector(attn + "q_proj.bias", c.q_size());
    w.k_bias = source.vector(attn + "k_proj.bias", c.kv_size());
    w.v_bias = source.vector(attn + "v_proj.bias", c.kv_size());
  }
  if (c.qk_norm) {
    w.q_norm = source.vector(attn + "q_norm.weight", c.head_dim);
    w.k_norm = source.vector(attn + "k_norm.weight", c.head_dim);
  }
  w.o = source.matrix(attn + "o_proj.weight", c.hidden_size, c.q_size());
  w.post_norm = source.vector(prefix + "post_attention_layernorm.weight", c.hidden_size);
  w.gate = source.matrix(mlp + "gate_proj.weight", c.intermediate_size, c.hidden_size);
  w.up = source.matrix(mlp + "up_proj.weight", c.intermediate_size, c.hidden_size);
  w.down = source.matrix(mlp + "down_proj.weight", c.hidden_size, c.intermediate_size);
  return w;
}

void take_rest(WeightSource& source, const Config& c, Weights* w) {
  w->embedding = source.matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size);
  w->final_norm = source.vector("model.norm.weight", c.hidden_size);
  w->head = c.tied_head ? w->embedding : source.matrix("lm_head.weight", c.vocab_size, c.hidden_size);
}

void WeightBytes::add_rest(const Backend& backend, const Config& config, const Weights& w) {
  rest = bytes_of(backend, w.embedding) + w.final_norm.size * sizeof(float);
  if (!config.tied_head) rest += bytes_of(backend, w.head);
}

void WeightBytes::add(const Backend& backend, const LayerWeights& w) {
  size_t bytes = 0;
  for (const Matrix* m : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down}) bytes += bytes_of(backend, *m);
  for (const Vector* v : {&w.input_norm, &w.q_bias, &w.k_bias, &w.v_bias, &w.q_norm, &w.k_norm, &w.post_norm})
    bytes += v->size * sizeof(float);
  last_layer = bytes;
  layers += bytes;
  largest_layer = std::max(largest_layer, bytes);
}

void WeightBytes::check(size_t budget_bytes) const {
  const size_t least = rest + 2 * largest_layer;
  if (least > budget_bytes)
    throw wrong_value("INVALID_ARGUMENT", "weightBudgetBytes", "at least " + std::to_string(least),
                      std::to_string(budget_bytes));
}

Weights load_weights(Backend& backend, const Config& config, const TensorSource& source,
                     const std::atomic<bool>& cancelled, std::atomic<size_t>& loaded, size_t budget_bytes) {
  Weights w;
  PackingSource packing(backend, source, cancelled, loaded);
  take_rest(packing, config, &w);
  backend.finish_weights();
  WeightBytes bytes;
  bytes.add_rest(backend, config, w);
  for (size_t layer = 0; layer < config.num_layers; ++layer) {
    LayerWeights weights = take_layer(packing, config, layer);
    backend.finish_weights();
    bytes.add(backend, weights);
    bytes.check(budget_bytes);
    // Layers are of one size: when the next one will not fit, none is kept.
    const bool more = layer + 1 < config.num_layers;
    if (bytes.all() + (more ? bytes.last_layer : 0) > budget_bytes && !w.source)
      w.source = std::make_shared<PackedAnew>(backend, config, source);
    if (w.source)
      w.layers.clear();
    else
      w.layers.push_back(std::move(weights));
  }
  return w;
}

}  // namespace poc
