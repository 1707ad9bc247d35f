#include "sequence.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>

#include "error.h"
#include "leaves.h"

namespace poc {

Sequence::Sequence(std::shared_ptr<const Model> model, Dtype kv_dtype, size_t capacity, size_t chunk_size)
    : model_(std::move(model)),
      cache_(*model_, kv_dtype, capacity, model_->config.num_layers),
      chunk_size_(chunk_size) {}

namespace {

// Copies what `request` has of a layer whose rows, from position `first` on, are all there; returns how many rows.
size_t copy_requested(const LayerSamples& layer, const SampleRequest& request, size_t first, uint8_t* k, uint8_t* v) {
  const auto found = std::find(request.layers.begin(), request.layers.end(), layer.layer);
  if (found == request.layers.end()) return 0;
  const std::vector<uint32_t>& positions = request.positions[static_cast<size_t>(found - request.layers.begin())];
  for (const uint32_t position : positions) {
    const size_t at = (position - first) * layer.stride;
    memcpy(k, layer.k() + at, layer.k_bytes);
    if (layer.v_bytes > 0) memcpy(v, layer.v() + at, layer.v_bytes);
    k += layer.k_bytes;
    v += layer.v_bytes;
  }
  return positions.size();
}

}  // namespace

void Sequence::append(const std::vector<uint32_t>& tokens, const SampleRequest& request, uint8_t* k, uint8_t* v,
                      float* logits, const std::atomic<bool>& cancelled, uint8_t* leaves) {
  if (tokens.empty() || length_ + tokens.size() > cache_.capacity())
    throw wrong_value("CONTEXT_OVERFLOW", "tokens",
                      "1 to " + std::to_string(cache_.capacity() - length_) + " more tokens",
                      std::to_string(tokens.size()));
  const Config& c = model_->config;
  const auto ops = model_->backend->ops(cancelled);
  const Wanted wanted = logits ? Wanted::hidden : Wanted::cache;
  const SampleRequest samples = leaves ? every_row(tokens.size()) : request;
  Prefill pass(*model_, *ops, cache_, {{tokens, samples, length_, 0, wanted}}, chunk_size_, cancelled);
  std::deque<LayerSamples> queued;
  const auto take = [&](size_t left) {
    for (; queued.size() > left; queued.pop_front()) {
      const LayerSamples& layer = queued.front();
      size_t rows = layer.places.size();
      if (leaves) {
        hash_layer(layer, leaves, cancelled);
        rows = copy_requested(layer, request, length_, k, v);
      } else {
        layer.copy(k, v);
      }
      k += rows * layer.k_bytes;
      v += rows * layer.v_bytes;
    }
  };
  while (pass.next()) {
    queued.push_back(pass.take_samples());
    if (!queued.back().rows) queued.pop_back();
    if (leaves) take(ops->layers_ahead());  // as they come: all rows of all layers would be a second cache
  }
  std::unique_ptr<Download> last;
  std::shared_ptr<Buffer> final;
  if (logits) {
    const size_t stride = model_->backend->row_stride(c.hidden_size);
    final = model_->backend->allocate(stride * sizeof(float));
    const Rows normed{static_cast<float*>(final->data()), 1, c.hidden_size, stride};
    ops->rmsnorm(pass.last_hidden(), model_->weights.final_norm.data(), static_cast<float>(c.rms_norm_eps), normed);
    last = head(*ops, normed);
  }
  take(0);
  // A pass without samples or logits is waited for as well: failures belong to this call.
  if (!last) last = ops->download(model_->backend->allocate(sizeof(float)), sizeof(float));
  const void* values = last->wait();
  if (logits) memcpy(logits, values, c.vocab_size * sizeof(float));
  length_ += tokens.size();
  final_ = std::move(final);
}

// All of the next positions at all layers, the virtual one too.
SampleRequest Sequence::every_row(size_t num_tokens) const {
  std::vector<uint32_t> positions(num_tokens);
  std::iota(positions.begin(), positions.end(), static_cast<uint32_t>(length_));
  SampleRequest all;
  for (size_t layer = 0; layer <= model_->config.num_layers; ++layer) {
    all.layers.push_back(static_cast<uint32_t>(layer));
    all.positions.push_back(positions);
  }
  return all;
}

void Sequence::hash_layer(const LayerSamples& layer, uint8_t* leaves, const std::atomic<bool>& cancelled) const {
  const LeafRows rows{static_cast<uint32_t>(layer.layer),
                      static_cast<uint32_t>(length_),
                      layer.k(),
                      layer.v(),
                      layer.k_bytes,
                      layer.v_bytes,
                      layer.stride};
  hash_leaves(rows, layer.num_rows, model_->backend->host_threads(), leaves + layer.layer * kDigestBytes,
              (model_->config.num_layers + 1) * kDigestBytes, cancelled);
}

// Logits of one final hidden state: (1, vocab_size).
std::unique_ptr<Download> Sequence::head(Ops& ops, Rows normed) const {
  const size_t vocab = model_->config.vocab_size, stride = model_->backend->row_stride(vocab);
  const std::shared_ptr<Buffer> out = model_->backend->allocate(stride * sizeof(float));
  ops.matmul(normed, model_->weights.head, {static_cast<float*>(out->data()), 1, vocab, stride});
  return ops.download(out, vocab * sizeof(float));
}

void Sequence::extract(const std::vector<uint32_t>& layers, uint32_t position, uint8_t* k, uint8_t* v) const {
  if (layers.empty()) return;
  const std::atomic<bool> never{false};
  Backend& backend = *model_->backend;
  const auto ops = backend.ops(never);
  const bool final = layers.back() == model_->config.num_layers;
  const size_t num_layers = layers.size() - (final ? 1 : 0), bytes = cache_.layer(0).row_bytes();
  if (final) {
    const size_t hidden_bytes = model_->config.hidden_size * sizeof(float);
    memcpy(k + num_layers * bytes, ops->download(final_, hidden_bytes)->wait(), hidden_bytes);
  }
  if (num_layers == 0) return;
  const auto positions = backend.upload(&position, sizeof position);
  const std::shared_ptr<Buffer> rows = backend.allocate(2 * num_layers * bytes);
  char* out = static_cast<char*>(rows->data());
  for (size_t i = 0; i < num_layers; ++i)
    ops->extract(cache_.layer(layers[i]), static_cast<const uint32_t*>(positions->data()), 1, out + i * bytes,
                 out + (num_layers + i) * bytes);
  const auto download = ops->download(rows, 2 * num_layers * bytes);
  const char* arrived = static_cast<const char*>(download->wait());
  memcpy(k, arrived, num_layers * bytes);
  memcpy(v, arrived + num_layers * bytes, num_layers * bytes);
}

}  // namespace poc
