// The JS class Prefill: one verification's pass, a layer a call.
#pragma once
#include <napi.h>

#include "../core/sequence.h"
#include "executor.h"

namespace poc::binding {

class PrefillWrap : public Napi::ObjectWrap<PrefillWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // new Prefill(model, tokens, layers, counts, positions, kvDtype, chunkSize)
  explicit PrefillWrap(const Napi::CallbackInfo& info);

 private:
  struct Run;
  // next(k, v): Promise<number>: computes K and V of the next layer, writes the rows sampled there (none:
  // empty arrays) and gives the layer's number; -1 after the last one.
  Napi::Value next(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<Run> run_;
  CancelFlag cancel_;
  size_t next_layer_ = 0;
};

}  // namespace poc::binding
