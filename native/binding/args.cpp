#include "args.h"

#include <algorithm>

namespace poc::binding {

std::vector<uint32_t> read_tokens(const Napi::Value& value, const Config& config) {
  std::vector<uint32_t> tokens = read_uint32s(value, "tokens");
  for (const uint32_t token : tokens)
    if (token >= config.vocab_size)
      throw wrong_value("TOKEN_OUT_OF_RANGE", "tokens", "ids below " + std::to_string(config.vocab_size),
                        std::to_string(token));
  return tokens;
}

SampleRequest read_samples(const Napi::Value& layers, const Napi::Value& counts, const Napi::Value& positions,
                           size_t num_layers, size_t first_position, size_t last_position) {
  SampleRequest request;
  request.layers = read_uint32s(layers, "layers");
  const auto sizes = read_uint32s(counts, "counts"), flat = read_uint32s(positions, "positions");
  if (sizes.size() != request.layers.size()) throw bad_argument("counts", "one a layer");
  size_t at = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (request.layers[i] > num_layers || (i > 0 && request.layers[i] <= request.layers[i - 1]))
      throw bad_argument("layers", "ascending layers of the model");
    if (sizes[i] == 0 || sizes[i] > flat.size() - at) throw bad_argument("counts", "the numbers of positions");
    request.positions.emplace_back(flat.begin() + static_cast<long>(at),
                                   flat.begin() + static_cast<long>(at + sizes[i]));
    const auto& row = request.positions.back();
    for (size_t j = 0; j < row.size(); ++j)
      if (row[j] < first_position || row[j] > last_position || (j > 0 && row[j] <= row[j - 1]))
        throw bad_argument("positions", "strictly increasing positions of the sequence");
    at += sizes[i];
  }
  if (at != flat.size()) throw bad_argument("positions", "as many as the counts say");
  return request;
}

SampleBytes sample_bytes(const Config& config, Dtype kv_dtype, size_t layer, size_t num_samples) {
  if (layer == config.num_layers) return {num_samples * config.hidden_size * sizeof(float), 0};
  const size_t bytes = num_samples * config.kv_size() * dtype_bytes(kv_dtype);
  return {bytes, bytes};
}

Sampling read_sampling(const Napi::Object& o) {
  Sampling s;
  s.temperature = read_number(o, "temperature");
  s.top_k = static_cast<uint32_t>(std::min<size_t>(read_size(o, "topK"), 0xffffffffu));
  s.top_p = read_number(o, "topP");
  const auto key = read_uint32s(o.Get("key"), "key");
  if (key.size() != 2 || !(s.temperature >= 0) || !(s.top_p > 0)) throw bad_argument("sampling", "well formed");
  s.key[0] = key[0];
  s.key[1] = key[1];
  return s;
}

Config read_config(const Napi::Object& o) {
  Config c;
  c.vocab_size = read_size(o, "vocabSize");
  c.hidden_size = read_size(o, "hiddenSize");
  c.intermediate_size = read_size(o, "intermediateSize");
  c.num_layers = read_size(o, "numLayers");
  c.num_heads = read_size(o, "numHeads");
  c.num_kv_heads = read_size(o, "numKvHeads");
  c.head_dim = read_size(o, "headDim");
  c.max_positions = read_size(o, "maxPositions");
  c.rms_norm_eps = read_number(o, "rmsNormEps");
  c.rope_theta = read_number(o, "ropeTheta");
  const Napi::Value scaling = o.Get("ropeScaling");
  if (scaling.IsObject()) {
    const auto s = scaling.As<Napi::Object>();
    c.rope_scaling = {read_number(s, "factor"), read_number(s, "lowFreqFactor"), read_number(s, "highFreqFactor"),
                      read_number(s, "originalMaxPositions")};
  }
  const Napi::Value window = o.Get("slidingWindow");
  c.sliding_window = window.IsNumber() ? read_size(window, "slidingWindow") : 0;
  c.qkv_bias = o.Get("qkvBias").ToBoolean();
  c.qk_norm = o.Get("qkNorm").ToBoolean();
  c.tied_head = o.Get("tiedHead").ToBoolean();
  const bool sane = c.vocab_size && c.hidden_size && c.intermediate_size && c.num_layers && c.num_kv_heads &&
                    c.num_heads % c.num_kv_heads == 0 && c.num_heads && c.head_dim >= 2 && c.head_dim % 2 == 0 &&
                    c.rope_theta > 0;
  if (!sane) throw bad_argument("config", "consistent");
  return c;
}

}  // namespace poc::binding
