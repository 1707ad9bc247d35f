// The model's shape: Hugging Face's names, as lib/config.ts read and checked them.
#pragma once
#include <cstddef>

namespace poc {

struct RopeScaling {  // rope_type "llama3"; factor 0 means none
  double factor = 0, low_freq_factor = 1, high_freq_factor = 4, original_max_positions = 8192;
};

struct Config {
  size_t vocab_size = 0, hidden_size = 0, intermediate_size = 0;
  size_t num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  size_t max_positions = 0;
  double rms_norm_eps = 0, rope_theta = 0;
  RopeScaling rope_scaling;
  size_t sliding_window = 0;  // 0: every earlier key is seen
  bool qkv_bias = false, qk_norm = false, tied_head = false;

  size_t q_size() const { return num_heads * head_dim; }
  size_t kv_size() const { return num_kv_heads * head_dim; }
};

}  // namespace poc
