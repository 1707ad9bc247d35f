#include "sequence.h"

#include <cstring>

#include "error.h"
#include "prefill.h"

namespace poc {

Sequence::Sequence(std::shared_ptr<const Model> model, Dtype kv_dtype, size_t capacity, size_t chunk_size)
    : model_(std::move(model)),
      cache_(*model_, kv_dtype, capacity, model_->config.num_layers),
      chunk_size_(chunk_size) {}

void Sequence::append(const std::vector<uint32_t>& tokens, const SampleRequest& request, uint8_t* k, uint8_t* v,
                      float* logits, const std::atomic<bool>& cancelled) {
  if (tokens.empty() || length_ + tokens.size() > cache_.capacity())
    throw wrong_value("CONTEXT_OVERFLOW", "tokens",
                      "1 to " + std::to_string(cache_.capacity() - length_) + " more tokens",
                      std::to_string(tokens.size()));
  const Config& c = model_->config;
  const auto ops = model_->backend->ops(cancelled);
  const Wanted wanted = logits ? Wanted::hidden : Wanted::cache;
  Prefill pass(*model_, *ops, cache_, {{tokens, request, length_, 0, wanted}}, chunk_size_, cancelled);
  std::vector<LayerSamples> samples;
  while (pass.next()) {
    samples.push_back(pass.take_samples());
    if (!samples.back().rows) samples.pop_back();
  }
  std::unique_ptr<Download> last;
  if (logits) last = head(*ops, pass.last_hidden());
  const size_t row_bytes = cache_.layer(0).row_bytes();
  for (const LayerSamples& some : samples) {
    some.copy(row_bytes, k, v);
    k += some.places.size() * row_bytes;
    v += some.places.size() * row_bytes;
  }
  // A pass without samples or logits is waited for as well: failures belong to this call.
  if (!last) last = ops->download(model_->backend->allocate(sizeof(float)), sizeof(float));
  const void* values = last->wait();
  if (logits) memcpy(logits, values, c.vocab_size * sizeof(float));
  length_ += tokens.size();
}

// Logits of one hidden state: (1, vocab_size).
std::unique_ptr<Download> Sequence::head(Ops& ops, Rows hidden) const {
  const Config& c = model_->config;
  Backend& backend = *model_->backend;
  const size_t stride = backend.row_stride(c.hidden_size), vocab = backend.row_stride(c.vocab_size);
  const auto memory = backend.allocate(stride * sizeof(float));
  const std::shared_ptr<Buffer> out = backend.allocate(vocab * sizeof(float));
  const Rows normed{static_cast<float*>(memory->data()), 1, c.hidden_size, stride};
  ops.rmsnorm(hidden, model_->weights.final_norm.data(), static_cast<float>(c.rms_norm_eps), normed);
  ops.matmul(normed, model_->weights.head, {static_cast<float*>(out->data()), 1, c.vocab_size, vocab});
  return ops.download(out, c.vocab_size * sizeof(float));
}

void Sequence::extract(const std::vector<uint32_t>& layers, uint32_t position, uint8_t* k, uint8_t* v) const {
  if (layers.empty()) return;
  const std::atomic<bool> never{false};
  Backend& backend = *model_->backend;
  const auto ops = backend.ops(never);
  const auto positions = backend.upload(&position, sizeof position);
  const size_t bytes = cache_.layer(0).row_bytes();
  const std::shared_ptr<Buffer> rows = backend.allocate(2 * layers.size() * bytes);
  char* out = static_cast<char*>(rows->data());
  for (size_t i = 0; i < layers.size(); ++i)
    ops->extract(cache_.layer(layers[i]), static_cast<const uint32_t*>(positions->data()), 1, out + i * bytes,
                 out + (layers.size() + i) * bytes);
  const auto download = ops->download(rows, 2 * layers.size() * bytes);
  const char* arrived = static_cast<const char*>(download->wait());
  memcpy(k, arrived, layers.size() * bytes);
  memcpy(v, arrived + layers.size() * bytes, layers.size() * bytes);
}

}  // namespace poc
