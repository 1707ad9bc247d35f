// The JS class Sequence: a KV cache that grows by a prompt or a token a call.
#pragma once
#include <napi.h>

#include "../core/sequence.h"
#include "executor.h"

namespace poc::binding {

class SequenceWrap : public Napi::ObjectWrap<SequenceWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // new Sequence(model, kvDtype, capacity, chunkSize)
  explicit SequenceWrap(const Napi::CallbackInfo& info);

 private:
  struct Run;
  // append(tokens, layers, counts, positions, k, v, sampling | null, logits | null, leaves | null): Promise<number>:
  // extends the sequence, writes the requested rows (the virtual layer's into k alone), logits and leaf digests, and
  // gives the token chosen for the next position (-1 without sampling).
  Napi::Value append(const Napi::CallbackInfo& info);
  // extract(layers, position, k, v): rows of one position, copied at once.
  void extract(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<Run> run_;
  CancelFlag cancel_;
};

}  // namespace poc::binding
