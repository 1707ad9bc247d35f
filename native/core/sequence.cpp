#include "sequence.h"

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
  Prefill pass(*model_, *ops, cache_, tokens.data(), tokens.size(), length_, Cone::full(c.num_layers, tokens.size()),
               chunk_size_);
  for (size_t i = 0; pass.next();) {
    if (i == request.layers.size() || request.layers[i] != pass.layer()) continue;
    const KvView view = cache_.layer(pass.layer());
    const auto& positions = request.positions[i++];
    ops->extract(view, positions.data(), positions.size(), k, v);
    k += positions.size() * view.row_bytes();
    v += positions.size() * view.row_bytes();
  }
  if (logits) {
    const Backend& backend = *model_->backend;
    const size_t hidden = backend.row_stride(c.hidden_size), vocab = backend.row_stride(c.vocab_size);
    const auto memory = model_->backend->allocate((hidden + vocab) * sizeof(float));
    float* data = static_cast<float*>(memory->data());
    const Rows normed{data, 1, c.hidden_size, hidden}, out{data + hidden, 1, c.vocab_size, vocab};
    ops->rmsnorm(pass.last_hidden(), model_->weights.final_norm.data(), static_cast<float>(c.rms_norm_eps), normed);
    ops->matmul(normed, model_->weights.head, out);
    ops->download(out, logits);
  }
  length_ += tokens.size();
}

void Sequence::extract(const std::vector<uint32_t>& layers, uint32_t position, uint8_t* k, uint8_t* v) const {
  const std::atomic<bool> never{false};
  const auto ops = model_->backend->ops(never);
  for (const uint32_t layer : layers) {
    const KvView view = cache_.layer(layer);
    ops->extract(view, &position, 1, k, v);
    k += view.row_bytes();
    v += view.row_bytes();
  }
}

}  // namespace poc
