// Small seeded models, kept as a file would keep them and loaded through load_weights().
#pragma once
#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "../core/model.h"
#include "../core/rope.h"
#include "../core/sequence.h"
#include "../cpu/cpu_backend.h"
#include "check.h"
#include "reference.h"

namespace poc::test {

struct RandomModel {
  std::string name;
  Config config;
  Dtype weights, kv;  // stored types
  uint64_t seed;

  struct Stored {
    std::vector<uint8_t> bytes;
    size_t rows, cols;
    size_t offset = 0;  // of the first value in `bytes`
  };
  std::map<std::string, Stored> tensors;

  // Values around `mean`, of deviation 0.58 * scale, rounded to the model's dtype. Tensors begin at odd
  // bytes, as they may in a file.
  void add(const std::string& tensor, size_t rows, size_t cols, float scale, float mean = 0) {
    Random random(digest(tensor.data(), tensor.size(), seed));
    const size_t bytes = dtype_bytes(weights);
    Stored stored{std::vector<uint8_t>(rows * cols * bytes + 1), rows, cols, 1};
    for (size_t i = 0; i < rows * cols; ++i) {
      float value[1];
      store_float(value, weights, 0, random.bell() * scale + mean);
      memcpy(stored.bytes.data() + 1 + i * bytes, value, bytes);
    }
    tensors[tensor] = std::move(stored);
  }

  void fill() {
    const Config& c = config;
    const auto matrix = [&](const std::string& tensor, size_t rows, size_t cols, float gain) {
      float scale = 2 * gain;
      for (size_t n = cols; n > 1; n /= 4) scale *= 0.5f;  // about 1 / sqrt(cols), a power of two
      add(tensor, rows, cols, scale);
    };
    matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size, 4);
    for (size_t layer = 0; layer < c.num_layers; ++layer) {
      const std::string p = "model.layers." + std::to_string(layer) + ".", attn = p + "self_attn.", mlp = p + "mlp.";
      add(p + "input_layernorm.weight", 1, c.hidden_size, 0.5f, 1.0f);
      matrix(attn + "q_proj.weight", c.q_size(), c.hidden_size, 2);
      matrix(attn + "k_proj.weight", c.kv_size(), c.hidden_size, 2);
      matrix(attn + "v_proj.weight", c.kv_size(), c.hidden_size, 1);
      matrix(attn + "o_proj.weight", c.hidden_size, c.q_size(), 1);
      if (c.qkv_bias) {
        add(attn + "q_proj.bias", 1, c.q_size(), 1.0f, 0.25f);
        add(attn + "k_proj.bias", 1, c.kv_size(), 4.0f, -1.0f);
        add(attn + "v_proj.bias", 1, c.kv_size(), 0.5f, 0.125f);
      }
      if (c.qk_norm) {
        add(attn + "q_norm.weight", 1, c.head_dim, 0.5f, 1.5f);
        add(attn + "k_norm.weight", 1, c.head_dim, 0.5f, 1.5f);
      }
      add(p + "post_attention_layernorm.weight", 1, c.hidden_size, 0.5f, 1.0f);
      matrix(mlp + "gate_proj.weight", c.intermediate_size, c.hidden_size, 2);
      matrix(mlp + "up_proj.weight", c.intermediate_size, c.hidden_size, 1);
      matrix(mlp + "down_proj.weight", c.hidden_size, c.intermediate_size, 1);
    }
    add("model.norm.weight", 1, c.hidden_size, 0.5f, 1.0f);
    if (!c.tied_head) matrix("lm_head.weight", c.vocab_size, c.hidden_size, 2);
  }

  TensorSource source() const {
    return [this](const std::string& tensor) -> TensorView {
      const auto found = tensors.find(tensor);
      if (found == tensors.end()) throw wrong_value("MODEL_MALFORMED", tensor, "present", "nothing");
      const Stored& stored = found->second;
      return {stored.bytes.data() + stored.offset, weights, stored.rows, stored.cols, found->first.c_str()};
    };
  }

  // The tensor's values, widened.
  reference::Array values(const std::string& tensor) const {
    const Stored& stored = tensors.at(tensor);
    reference::Array out(stored.rows, stored.cols);
    for (size_t i = 0; i < out.data.size(); ++i)
      out.data[i] = load_float(stored.bytes.data() + stored.offset, weights, i);
    return out;
  }

  std::shared_ptr<const Model> load(size_t num_threads, const std::string& simd) const {
    return load_on(cpu::make_backend(num_threads, simd));
  }

  std::shared_ptr<const Model> load_on(std::unique_ptr<Backend> backend, size_t budget_bytes = kNoBudget) const {
    const std::atomic<bool> never{false};
    std::atomic<size_t> loaded{0};
    return load_model(std::move(backend), config, source(), never, loaded, budget_bytes);
  }

  std::vector<uint32_t> tokens(size_t count) const {
    Random random(seed + 1);
    std::vector<uint32_t> out(count);
    for (uint32_t& token : out) token = static_cast<uint32_t>(random.below(config.vocab_size));
    return out;
  }
};

inline RandomModel random_model(const std::string& name, Dtype weights, Dtype kv, Config config) {
  config.max_positions = 4096;
  if (config.rope_theta == 0) config.rope_theta = 10000;
  RandomModel model{name, config, weights, kv, digest(name.data(), name.size()), {}};
  model.fill();
  return model;
}

inline Config shape(size_t vocab, size_t hidden, size_t intermediate, size_t layers, size_t heads, size_t kv_heads,
                    size_t head_dim) {
  Config c;
  c.vocab_size = vocab, c.hidden_size = hidden, c.intermediate_size = intermediate, c.num_layers = layers;
  c.num_heads = heads, c.num_kv_heads = kv_heads, c.head_dim = head_dim;
  c.rms_norm_eps = 1e-5;
  return c;
}

// One of each family, with sizes on and off the multiples of 16 and 32.
inline std::vector<RandomModel> random_models() {
  std::vector<RandomModel> models;
  models.push_back(random_model("llama_gqa", Dtype::bf16, Dtype::bf16, shape(97, 64, 112, 3, 8, 2, 16)));

  Config odd = shape(130, 41, 67, 2, 3, 3, 10);
  odd.tied_head = true;
  models.push_back(random_model("llama_odd_tied", Dtype::f32, Dtype::f32, odd));

  Config qwen2 = shape(96, 48, 96, 3, 6, 2, 8);
  qwen2.qkv_bias = qwen2.tied_head = true;
  qwen2.rms_norm_eps = 1e-6;
  qwen2.rope_theta = 1000000;
  models.push_back(random_model("qwen2_bias", Dtype::bf16, Dtype::f16, qwen2));

  Config qwen3 = shape(65, 40, 80, 3, 4, 1, 32);
  qwen3.qk_norm = true;
  qwen3.rms_norm_eps = 1e-6;
  qwen3.rope_theta = 1000000;
  models.push_back(random_model("qwen3_qk_norm", Dtype::f16, Dtype::bf16, qwen3));

  Config mistral = shape(64, 64, 96, 3, 4, 2, 16);
  mistral.sliding_window = 9;
  models.push_back(random_model("mistral_window", Dtype::f16, Dtype::f16, mistral));

  Config llama3 = shape(100, 64, 128, 2, 2, 1, 64);
  llama3.rope_theta = 500000;
  llama3.rope_scaling = {8, 1, 4, 64};
  models.push_back(random_model("llama3_rope", Dtype::f32, Dtype::bf16, llama3));
  return models;
}

// Large enough that every op is split into several tasks.
inline RandomModel wide_model() {
  return random_model("wide", Dtype::bf16, Dtype::bf16, shape(500, 256, 512, 2, 8, 4, 32));
}

// What a pass over tokens leaves behind, position by position.
struct PassResult {
  size_t row_bytes = 0, hidden_bytes = 0;
  std::vector<std::vector<uint8_t>> k, v;  // of each layer: (positions, num_kv_heads, head_dim)
  std::vector<uint8_t> hidden;             // (positions, hidden_size) after the final norm, where it was asked for
  std::vector<float> logits;               // of the last position
};

inline bool operator==(const PassResult& a, const PassResult& b) {
  return a.k == b.k && a.v == b.v && (a.hidden.empty() || b.hidden.empty() || a.hidden == b.hidden) &&
         a.logits.size() == b.logits.size() &&
         memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

// Where two results differ first, for the note of a failed check.
inline std::string difference(const PassResult& a, const PassResult& b) {
  for (size_t layer = 0; layer < a.k.size(); ++layer)
    for (const auto part : {&PassResult::k, &PassResult::v}) {
      const auto &x = (a.*part)[layer], &y = (b.*part)[layer];
      for (size_t i = 0; i < x.size(); ++i)
        if (x[i] != y[i])
          return text(part == &PassResult::k ? "k" : "v", " of layer ", layer, " at position ", i / a.row_bytes,
                      ", byte ", i % a.row_bytes);
    }
  for (size_t i = 0; i < std::min(a.hidden.size(), b.hidden.size()); ++i)
    if (a.hidden[i] != b.hidden[i]) return text("hidden state at position ", i / a.hidden_bytes);
  for (size_t i = 0; i < a.logits.size(); ++i)
    if (float_bits(a.logits[i]) != float_bits(b.logits[i]))
      return text("logit ", i, ": ", a.logits[i], " and ", b.logits[i]);
  return "none";
}

inline SampleRequest everything(size_t num_layers, size_t num_positions) {
  SampleRequest all;
  std::vector<uint32_t> positions(num_positions);
  for (size_t i = 0; i < num_positions; ++i) positions[i] = static_cast<uint32_t>(i);
  for (size_t layer = 0; layer < num_layers; ++layer) {
    all.layers.push_back(static_cast<uint32_t>(layer));
    all.positions.push_back(positions);
  }
  return all;
}

// `bytes`: all layers, one behind the other.
inline std::vector<std::vector<uint8_t>> by_layer(const std::vector<uint8_t>& bytes, size_t num_layers) {
  std::vector<std::vector<uint8_t>> out;
  const size_t size = bytes.size() / num_layers;
  for (size_t layer = 0; layer < num_layers; ++layer)
    out.emplace_back(bytes.begin() + static_cast<long>(layer * size),
                     bytes.begin() + static_cast<long>((layer + 1) * size));
  return out;
}

// All of a sequence's K and V, by extraction after the fact, and the given logits.
inline PassResult contents(const Sequence& sequence, Dtype kv, std::vector<float> logits) {
  const Config& c = sequence.model().config;
  PassResult result;
  result.row_bytes = c.kv_size() * dtype_bytes(kv);
  result.logits = std::move(logits);
  for (uint32_t layer = 0; layer < c.num_layers; ++layer) {
    std::vector<uint8_t> k(sequence.length() * result.row_bytes), v = k;
    for (size_t position = 0; position < sequence.length(); ++position)
      sequence.extract({layer}, static_cast<uint32_t>(position), k.data() + position * result.row_bytes,
                       v.data() + position * result.row_bytes);
    result.k.push_back(std::move(k));
    result.v.push_back(std::move(v));
  }
  return result;
}

// One call over all tokens, sampled everywhere on the way, the virtual layer too.
inline PassResult whole_pass(std::shared_ptr<const Model> model, Dtype kv, const std::vector<uint32_t>& tokens,
                             size_t chunk_size) {
  const Config& c = model->config;
  PassResult result;
  result.row_bytes = c.kv_size() * dtype_bytes(kv);
  result.hidden_bytes = c.hidden_size * sizeof(float);
  const size_t kv_bytes = c.num_layers * tokens.size() * result.row_bytes;
  std::vector<uint8_t> k(kv_bytes + tokens.size() * result.hidden_bytes), v(kv_bytes);
  result.logits.resize(c.vocab_size);
  const std::atomic<bool> never{false};
  Sequence sequence(model, kv, tokens.size(), chunk_size);
  sequence.append(tokens, everything(c.num_layers + 1, tokens.size()), k.data(), v.data(), result.logits.data(), never);
  result.hidden.assign(k.begin() + static_cast<long>(kv_bytes), k.end());
  k.erase(k.begin() + static_cast<long>(kv_bytes), k.end());
  result.k = by_layer(k, c.num_layers);
  result.v = by_layer(v, c.num_layers);
  return result;
}

}  // namespace poc::test
