// The layer loop, written once for every backend, for verification, for prompts and for decoding.
#pragma once
#include <memory>
#include <vector>

#include "model.h"

namespace poc {

// What a run must compute. `rows[l]` is how many leading rows need K and V at layer l (the dependency
// cone: it never grows with l); rows.size() - 1 layers are visited, and rows.back() rows leave the last
// of them complete (0 in verification, where nothing below the last sampled K and V is needed).
// `last_rows`, when not empty, lists the only rows needed at the last layer (strictly increasing).
struct Cone {
  std::vector<size_t> rows;
  std::vector<uint32_t> last_rows;

  // All rows of all layers, hidden state included: prompts and decoding.
  static Cone full(size_t num_layers, size_t num_rows) { return {std::vector<size_t>(num_layers + 1, num_rows), {}}; }
  // Layers 0 .. the deepest one named in `layers`; positions[i] are sampled at layers[i].
  static Cone of_samples(const std::vector<uint32_t>& layers, const std::vector<std::vector<uint32_t>>& positions);
};

// One pass over consecutive positions. next() completes layer l - 1 and then writes K and V of layer l
// into the cache, so that they can be extracted before anything deeper is computed.
class Prefill {
 public:
  Prefill(const Model& model, Ops& ops, KvCache& cache, const uint32_t* tokens, size_t num_tokens,
          size_t first_position, Cone cone, size_t chunk_size);

  // Computes up to K and V of layer `layer()`; false once all layers of the cone were visited, with
  // the last one completed.
  bool next();
  // The layer whose K and V are in the cache, after a true next().
  size_t layer() const { return next_layer_ - 1; }
  // Whether K and V of `last_rows` stand in slots 0, 1, .. of the cache instead of their positions.

  bool rows_gathered() const { return gathered_; }
  // The last row's hidden state after the last layer: (1, hidden_size).
  Rows last_hidden() const { return hidden_.from(hidden_.rows - 1, 1); }

 private:
  void write_kv(size_t layer);
  void write_sampled_kv(size_t layer);
  void finish(size_t layer, size_t num_rows);
  void attend(const LayerWeights& w, size_t layer, size_t row, size_t count);
  void feed_forward(const LayerWeights& w, size_t row, size_t count);
  void project_kv(const LayerWeights& w, Rows normed, const float* rope, size_t rope_rows, size_t rope_row,
                  size_t first_slot);
  Rows scratch(size_t which, size_t rows, size_t cols) const;
  float eps() const { return static_cast<float>(model_.config.rms_norm_eps); }
  float* float_data(Buffer& buffer) const { return static_cast<float*>(buffer.data()); }

  const Model& model_;
  Ops& ops_;
  KvCache& cache_;
  const size_t first_position_, chunk_size_;
  const Cone cone_;
  size_t next_layer_ = 0;
  bool gathered_ = false, finished_ = false;
  std::unique_ptr<Buffer> hidden_buffer_, scratch_[3];
  std::unique_ptr<Buffer> rope_, last_rope_;  // cosines then sines of all rows, and of last_rows
  Rows hidden_;                               // (num_tokens, hidden_size): the residual stream
};

}  // namespace poc
