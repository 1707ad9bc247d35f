// A sequence being generated: its KV cache, and the pass that extends it by a prompt or by one token.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "model.h"
#include "prefill.h"

namespace poc {

class Sequence {
 public:
  Sequence(std::shared_ptr<const Model> model, Dtype kv_dtype, size_t capacity, size_t chunk_size);

  // Appends tokens at positions length() .. ; writes the requested rows of these positions (order of layer, then
  // position) to `k` and `v` (a virtual layer's hidden states to `k` alone), the logits of the last position to
  // `logits` (vocab_size) if not null, and to `leaves` if not null the leaf digests of these positions at all layers,
  // the virtual one too: (tokens, num_layers + 1, kDigestBytes).
  // A cancelled or failed call leaves length() as it was, and the sequence usable.
  void append(const std::vector<uint32_t>& tokens, const SampleRequest& request, uint8_t* k, uint8_t* v, float* logits,
              const std::atomic<bool>& cancelled, uint8_t* leaves = nullptr);

  // Copies K and V of `position` at `layers` out of the cache. `layers` may end with the virtual layer, whose row goes
  // to `k`, where has_final(position).
  void extract(const std::vector<uint32_t>& layers, uint32_t position, uint8_t* k, uint8_t* v) const;

  // Whether it is the last position, and of an append that gave logits: its final hidden state is kept.
  bool has_final(size_t position) const { return final_ != nullptr && position + 1 == length_; }

  size_t length() const { return length_; }
  const Model& model() const { return *model_; }

 private:
  std::unique_ptr<Download> head(Ops& ops, Rows normed) const;
  SampleRequest every_row(size_t num_tokens) const;
  void hash_layer(const LayerSamples& layer, uint8_t* leaves, const std::atomic<bool>& cancelled) const;

  std::shared_ptr<const Model> model_;
  KvCache cache_;
  std::shared_ptr<Buffer> final_;  // (1, hidden_size), or null; see has_final()
  size_t length_ = 0, chunk_size_;
};

}  // namespace poc
