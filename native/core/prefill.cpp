#include "prefill.h"

#include <algorithm>
#include <cstring>

namespace poc {

void LayerSamples::copy(uint8_t* k_out, uint8_t* v_out) const {
  if (!rows) return;
  const uint8_t *all_k = k(), *all_v = v();
  for (size_t i = 0; i < places.size(); ++i) {
    memcpy(k_out + i * k_bytes, all_k + places[i] * stride, k_bytes);
    if (v_bytes > 0) memcpy(v_out + i * v_bytes, all_v + places[i] * stride, v_bytes);
  }
}

Prefill::Prefill(const Model& model, Ops& ops, KvCache& cache, const std::vector<Part>& parts, size_t chunk_size,
                 const std::atomic<bool>& cancelled)
    : model_(model),
      ops_(ops),
      cache_(cache),
      cone_(parts, model.config.num_layers),
      chunk_size_(std::max<size_t>(1, std::min(chunk_size, cone_.num_rows()))),
      layers_(model, cone_.num_layers(), cancelled) {
  const Config& c = model.config;
  Backend& backend = *model.backend;
  const auto floats = [&](size_t rows, size_t cols) {
    return backend.allocate(rows * backend.row_stride(cols) * sizeof(float));
  };
  const size_t wide = std::max({c.q_size(), c.kv_size(), c.intermediate_size, c.hidden_size});
  hidden_buffer_ = floats(cone_.num_rows(), c.hidden_size);
  hidden_ = rows_in(*hidden_buffer_, cone_.num_rows(), c.hidden_size);
  for (size_t which = 0; which < 3; ++which) scratch_[which] = floats(chunk_size_, which == 0 ? c.hidden_size : wide);
  upload_lists(parts);
  ops_.embed(model.weights.embedding, tokens_, hidden_);
}

// Everything that ops index with, in one copy: tokens, positions and slots of the rows; for each sampled
// layer, which sample a row becomes; for the end of the cone, where it has only samples, and for the virtual layer,
// their rows and positions instead, and the numbers 0, 1, ..
void Prefill::upload_lists(const std::vector<Part>& parts) {
  const size_t rows = cone_.num_rows(), last = cone_.num_layers() - 1;
  std::vector<uint32_t> all, positions, slots;
  for (const Part& part : parts) {
    all.insert(all.end(), part.tokens.begin(), part.tokens.end());
    for (size_t i = 0; i < part.tokens.size(); ++i) {
      positions.push_back(static_cast<uint32_t>(part.first_position + i));
      slots.push_back(static_cast<uint32_t>(part.first_slot + part.first_position + i));
    }
  }
  all.insert(all.end(), positions.begin(), positions.end());
  all.insert(all.end(), slots.begin(), slots.end());
  std::vector<size_t> starts(last + 1, 0);  // of the layers' lists in `all`; 0: none
  for (size_t layer = 0; layer <= last; ++layer) {
    const std::vector<uint32_t>& sampled = cone_.sampled_rows(layer);
    if (sampled.empty() || cone_.only_samples(layer)) continue;
    starts[layer] = all.size();
    all.resize(all.size() + rows, static_cast<uint32_t>(-1));
    for (size_t i = 0; i < sampled.size(); ++i) all[starts[layer] + sampled[i]] = static_cast<uint32_t>(i);
  }
  std::vector<uint32_t> gathered;
  if (cone_.virtual_layer() || cone_.only_samples(last)) gathered = cone_.sampled_rows(cone_.end());
  const size_t gathered_at = all.size();
  all.insert(all.end(), gathered.begin(), gathered.end());
  for (const uint32_t row : gathered) all.push_back(positions[row]);
  for (size_t i = 0; i < gathered.size(); ++i) all.push_back(static_cast<uint32_t>(i));

  lists_ = model_.backend->upload(all.data(), all.size() * sizeof(uint32_t));
  const auto* base = static_cast<const uint32_t*>(lists_->data());
  tokens_ = base;
  slots_ = base + 2 * rows;
  for (const size_t start : starts)
    sample_lists_.push_back(start > 0 ? reinterpret_cast<const int32_t*>(base + start) : nullptr);
  gathered_rows_ = base + gathered_at;
  gathered_positions_ = gathered_rows_ + gathered.size();
  gathered_samples_ = reinterpret_cast<const int32_t*>(gathered_positions_ + gathered.size());
  rope_ = make_rope(base + rows, rows);
}

Prefill::RopeRows Prefill::make_rope(const uint32_t* positions, size_t count) {
  const size_t half = model_.config.head_dim / 2;
  RopeRows rope{model_.backend->allocate(2 * count * half * sizeof(float)), nullptr, nullptr};
  float* cosines = float_data(*rope.buffer);
  ops_.rope_table(model_.rope_frequencies, positions, count, cosines, cosines + count * half);
  rope.cosines = cosines;
  rope.sines = cosines + count * half;
  return rope;
}

bool Prefill::next() {
  if (finished_) return false;
  if (next_layer_ > 0) finish(next_layer_ - 1);
  if (next_layer_ == cone_.num_layers()) {
    finished_ = true;
    if (cone_.virtual_layer()) write_final();
    return cone_.virtual_layer();
  }
  const size_t layer = next_layer_++;
  if (cone_.only_samples(layer))
    write_sampled_kv(layer);
  else
    write_kv(layer);
  return true;
}

// Calls f(row, count) for the spans in chunks.
template <class F>
void Prefill::for_chunks(const std::vector<Span>& spans, F f) {
  for (const Span& span : spans)
    for (size_t row = 0; row < span.rows; row += chunk_size_)
      f(span.first_row + row, std::min(chunk_size_, span.rows - row));
}

void Prefill::write_kv(size_t layer) {
  const LayerWeights& w = layers_.layer(layer);
  RopeKvArgs all = {};
  all.cache = cache_.layer(layer);
  const std::shared_ptr<Buffer> sampled = begin_samples(layer, &all);
  for_chunks(cone_.rows(layer), [&](size_t row, size_t count) {
    const Rows normed = scratch(0, count, model_.config.hidden_size);
    ops_.rmsnorm(hidden_.from(row, count), w.input_norm.data(), eps(), normed);
    RopeKvArgs args = all;
    args.slots = slots_ + row;
    if (sampled) args.samples = sample_lists_[layer] + row;
    rotate_by(rope_, row, &args);
    project_kv(w, normed, args);
  });
  end_samples(sampled);
}

// The residual stream goes on with the rows that are sampled at the end of the cone, densely: what the layer before
// has still to do is done for them alone.
void Prefill::keep_sampled_rows() {
  const size_t count = cone_.sampled_rows(cone_.end()).size(), cols = model_.config.hidden_size;
  if (count == hidden_.rows) return;  // they lie as they must
  std::unique_ptr<Buffer> buffer = model_.backend->allocate(count * model_.backend->row_stride(cols) * sizeof(float));
  const Rows kept = rows_in(*buffer, count, cols);
  ops_.gather(hidden_, gathered_rows_, kept);
  hidden_buffer_ = std::move(buffer);
  hidden_ = kept;
  rope_ = make_rope(gathered_positions_, count);
}

void Prefill::write_sampled_kv(size_t layer) {
  if (layer == 0) keep_sampled_rows();
  const LayerWeights& w = layers_.layer(layer);
  RopeKvArgs all = {};
  all.cache = cache_.layer(layer);
  all.cache.k = all.cache.v = nullptr;  // nothing attends to them
  const std::shared_ptr<Buffer> sampled = begin_samples(layer, &all);
  for_chunks(cone_.rows(layer), [&](size_t row, size_t count) {
    const Rows normed = scratch(0, count, model_.config.hidden_size);
    ops_.rmsnorm(hidden_.from(row, count), w.input_norm.data(), eps(), normed);
    RopeKvArgs args = all;
    args.samples = gathered_samples_ + row;
    rotate_by(rope_, row, &args);
    project_kv(w, normed, args);
  });
  end_samples(sampled);
}

// Sampled rows of the virtual layer, through the final norm.
void Prefill::write_final() {
  const size_t layer = cone_.num_layers(), cols = model_.config.hidden_size, rows = cone_.sampled_rows(layer).size();
  const size_t stride = model_.backend->row_stride(cols) * sizeof(float);
  final_buffer_ = model_.backend->allocate(rows * stride);
  final_ = rows_in(*final_buffer_, rows, cols);
  const bool kept = cone_.only_samples(layer);
  for_chunks({{0, rows}}, [&](size_t row, size_t count) {
    const Rows gathered = kept ? hidden_.from(row, count) : scratch(1, count, cols);
    if (!kept) ops_.gather(hidden_, gathered_rows_ + row, gathered);
    ops_.rmsnorm(gathered, model_.weights.final_norm.data(), eps(), final_.from(row, count));
  });
  samples_ = {layer, rows, cols * sizeof(float), 0, stride, nullptr, cone_.sample_places(layer)};
  samples_.rows = ops_.download(final_buffer_, rows * stride);
}

// Memory for the layer's samples, K then V; null when there are none.
std::shared_ptr<Buffer> Prefill::begin_samples(size_t layer, RopeKvArgs* args) {
  const size_t row_bytes = args->cache.row_bytes();
  samples_ = {layer,   cone_.sampled_rows(layer).size(), row_bytes, row_bytes, row_bytes,
              nullptr, cone_.sample_places(layer)};
  if (samples_.num_rows == 0) return nullptr;
  const size_t bytes = samples_.num_rows * row_bytes;
  std::shared_ptr<Buffer> buffer = model_.backend->allocate(2 * bytes);
  args->sampled_k = buffer->data();
  args->sampled_v = static_cast<char*>(buffer->data()) + bytes;
  return buffer;
}

void Prefill::end_samples(const std::shared_ptr<Buffer>& sampled) {
  if (sampled) samples_.rows = ops_.download(sampled, 2 * samples_.num_rows * samples_.stride);
}

void Prefill::rotate_by(const RopeRows& rope, size_t row, RopeKvArgs* args) const {
  const size_t half = model_.config.head_dim / 2;
  args->eps = eps();
  args->cosines = rope.cosines + row * half;
  args->sines = rope.sines + row * half;
}

void Prefill::project_kv(const LayerWeights& w, Rows normed, RopeKvArgs args) {
  args.k = scratch(1, normed.rows, model_.config.kv_size());
  args.v = scratch(2, normed.rows, model_.config.kv_size());
  ops_.matmul(normed, w.k, args.k);
  ops_.matmul(normed, w.v, args.v);
  args.k_bias = w.k_bias.data();
  args.v_bias = w.v_bias.data();
  args.k_norm = w.k_norm.data();
  ops_.rope_kv(args);
}

// Attention and MLP of a layer whose K and V are in the cache, for the rows that deeper layers need.
void Prefill::finish(size_t layer) {
  const LayerWeights& w = layers_.layer(layer);
  if (cone_.only_samples(layer + 1)) keep_sampled_rows();
  for_chunks(cone_.rows(layer + 1), [&](size_t row, size_t count) {
    attend(w, layer, row, count);
    feed_forward(w, row, count);
  });
}

void Prefill::attend(const LayerWeights& w, size_t layer, size_t row, size_t count) {
  const Config& c = model_.config;
  const Rows x = hidden_.from(row, count), normed = scratch(0, count, c.hidden_size);
  RopeKvArgs rotate = {};
  rotate.q = scratch(1, count, c.q_size());
  ops_.rmsnorm(x, w.input_norm.data(), eps(), normed);
  ops_.matmul(normed, w.q, rotate.q);
  rotate.q_bias = w.q_bias.data();
  rotate.q_norm = w.q_norm.data();
  rotate.cache = cache_.layer(layer);
  rotate_by(rope_, row, &rotate);
  ops_.rope_kv(rotate);

  const Rows heads = scratch(2, count, c.q_size());
  const std::vector<Segment> segments = cone_.segments(layer + 1, row, count);
  ops_.attention({rotate.q, heads, rotate.cache, segments.data(), segments.size(), c.sliding_window});
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

Rows Prefill::scratch(size_t which, size_t rows, size_t cols) const { return rows_in(*scratch_[which], rows, cols); }

Rows Prefill::rows_in(Buffer& buffer, size_t rows, size_t cols) const {
  return {float_data(buffer), rows, cols, model_.backend->row_stride(cols)};
}

}  // namespace poc
