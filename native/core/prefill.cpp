#include "prefill.h"

#include <algorithm>

#include "rope.h"

namespace poc {

Cone Cone::of_samples(const std::vector<uint32_t>& layers, const std::vector<std::vector<uint32_t>>& positions) {
  Cone cone;
  cone.rows.assign(layers.back() + 2, 0);
  for (size_t i = 0; i < layers.size(); ++i) cone.rows[layers[i]] = static_cast<size_t>(positions[i].back()) + 1;
  for (size_t l = cone.rows.size() - 1; l-- > 0;) cone.rows[l] = std::max(cone.rows[l], cone.rows[l + 1]);
  cone.last_rows = positions.back();
  return cone;
}

Prefill::Prefill(const Model& model, Ops& ops, KvCache& cache, const uint32_t* tokens, size_t num_tokens,
                 size_t first_position, Cone cone, size_t chunk_size)
    : model_(model),
      ops_(ops),
      cache_(cache),
      first_position_(first_position),
      chunk_size_(std::max<size_t>(1, std::min(chunk_size, num_tokens))),
      cone_(std::move(cone)) {
  const Config& c = model.config;
  Backend& backend = *model.backend;
  const auto floats = [&](size_t rows, size_t cols) {
    return backend.allocate(rows * backend.row_stride(cols) * sizeof(float));
  };
  const size_t wide = std::max({c.q_size(), c.kv_size(), c.intermediate_size, c.hidden_size});
  hidden_buffer_ = floats(num_tokens, c.hidden_size);
  hidden_ = {float_data(*hidden_buffer_), num_tokens, c.hidden_size, backend.row_stride(c.hidden_size)};
  for (size_t which = 0; which < 3; ++which) scratch_[which] = floats(chunk_size_, which == 0 ? c.hidden_size : wide);

  const auto upload_rope = [&](const std::vector<uint32_t>& positions) {
    const auto table = rope_table(model.rope_frequencies, positions.data(), positions.size());
    return backend.upload(table.data(), table.size() * sizeof(float));
  };
  std::vector<uint32_t> positions(num_tokens);
  for (size_t row = 0; row < num_tokens; ++row) positions[row] = static_cast<uint32_t>(first_position + row);
  rope_ = upload_rope(positions);
  if (!cone_.last_rows.empty()) {
    for (size_t i = 0; i < cone_.last_rows.size(); ++i)
      positions[i] = static_cast<uint32_t>(first_position + cone_.last_rows[i]);
    positions.resize(cone_.last_rows.size());
    last_rope_ = upload_rope(positions);
  }
  ops_.embed(model.weights.embedding, tokens, hidden_);
}

bool Prefill::next() {
  const size_t num_layers = cone_.rows.size() - 1;
  if (finished_) return false;
  if (next_layer_ > 0) finish(next_layer_ - 1, cone_.rows[next_layer_]);
  if (next_layer_ == num_layers) {
    finished_ = true;
    return false;
  }
  const size_t layer = next_layer_++;
  if (layer + 1 == num_layers && !cone_.last_rows.empty())
    write_sampled_kv(layer);
  else
    write_kv(layer);
  return true;
}

void Prefill::write_kv(size_t layer) {
  const LayerWeights& w = model_.weights.layers[layer];
  const size_t rows = cone_.rows[layer];
  for (size_t row = 0; row < rows; row += chunk_size_) {
    const size_t count = std::min(chunk_size_, rows - row);
    const Rows normed = scratch(0, count, model_.config.hidden_size);
    ops_.rmsnorm(hidden_.from(row, count), w.input_norm.data(), eps(), normed);
    project_kv(w, normed, float_data(*rope_), hidden_.rows, row, first_position_ + row);
  }
}

void Prefill::write_sampled_kv(size_t layer) {
  const LayerWeights& w = model_.weights.layers[layer];
  const std::vector<uint32_t>& rows = cone_.last_rows;
  gathered_ = true;
  for (size_t i = 0; i < rows.size(); i += chunk_size_) {
    const size_t count = std::min(chunk_size_, rows.size() - i);
    const Rows gathered = scratch(1, count, model_.config.hidden_size);
    const Rows normed = scratch(0, count, model_.config.hidden_size);
    ops_.gather(hidden_, rows.data() + i, gathered);
    ops_.rmsnorm(gathered, w.input_norm.data(), eps(), normed);
    project_kv(w, normed, float_data(*last_rope_), rows.size(), i, i);
  }
}

// `rope` holds cosines then sines of `rope_rows` rows; those of this chunk begin at `rope_row`.
void Prefill::project_kv(const LayerWeights& w, Rows normed, const float* rope, size_t rope_rows, size_t rope_row,
                         size_t first_slot) {
  const Config& c = model_.config;
  const size_t half = c.head_dim / 2;
  RopeKvArgs args = {};
  args.k = scratch(1, normed.rows, c.kv_size());
  args.v = scratch(2, normed.rows, c.kv_size());
  ops_.matmul(normed, w.k, args.k);
  ops_.matmul(normed, w.v, args.v);
  args.k_bias = w.k_bias.data();
  args.v_bias = w.v_bias.data();
  args.k_norm = w.k_norm.data();
  args.eps = eps();
  args.cosines = rope + rope_row * half;
  args.sines = rope + (rope_rows + rope_row) * half;
  args.cache = cache_.layer(next_layer_ - 1);
  args.first_slot = first_slot;
  ops_.rope_kv(args);
}

// Attention and MLP of a layer whose K and V are in the cache, for the rows that deeper layers need.
void Prefill::finish(size_t layer, size_t num_rows) {
  const LayerWeights& w = model_.weights.layers[layer];
  for (size_t row = 0; row < num_rows; row += chunk_size_) {
    const size_t count = std::min(chunk_size_, num_rows - row);
    attend(w, layer, row, count);
    feed_forward(w, row, count);
  }
}

void Prefill::attend(const LayerWeights& w, size_t layer, size_t row, size_t count) {
  const Config& c = model_.config;
  const size_t half = c.head_dim / 2;
  const Rows x = hidden_.from(row, count), normed = scratch(0, count, c.hidden_size);
  RopeKvArgs rotate = {};
  rotate.q = scratch(1, count, c.q_size());
  ops_.rmsnorm(x, w.input_norm.data(), eps(), normed);
  ops_.matmul(normed, w.q, rotate.q);
  rotate.q_bias = w.q_bias.data();
  rotate.q_norm = w.q_norm.data();
  rotate.eps = eps();
  rotate.cosines = float_data(*rope_) + row * half;
  rotate.sines = float_data(*rope_) + (hidden_.rows + row) * half;
  rotate.cache = cache_.layer(layer);
  ops_.rope_kv(rotate);

  const Rows heads = scratch(2, count, c.q_size());
  ops_.attention({rotate.q, heads, rotate.cache, first_position_ + row, c.sliding_window});
  ops_.matmul(heads, w.o, normed);
  ops_.add(x, normed);
}

void Prefill::feed_forward(const LayerWeights& w, size_t row, size_t count) {
  const Config& c = model_.config;
  const Rows x = hidden_.from(row, count), normed = scratch(0, count, c.hidden_size);
  const Rows gate = scratch(1, count, c.intermediate_size), up = scratch(2, count, c.intermediate_size);
  ops_.rmsnorm(x, w.post_norm.data(), eps(), normed);
  ops_.matmul(normed, w.gate, gate);
  ops_.matmul(normed, w.up, up);
  ops_.swiglu(gate, up);
  ops_.matmul(gate, w.down, normed);
  ops_.add(x, normed);
}

Rows Prefill::scratch(size_t which, size_t rows, size_t cols) const {
  return {float_data(*scratch_[which]), rows, cols, model_.backend->row_stride(cols)};
}

}  // namespace poc
