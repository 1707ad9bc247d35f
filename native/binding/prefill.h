// The JS class Prefill: one pass over the sequences of one or several verifications, a layer a call.
#pragma once
#include <napi.h>

#include "../core/sequence.h"
#include "executor.h"

namespace poc::binding {

class PrefillWrap : public Napi::ObjectWrap<PrefillWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // new Prefill(model, parts, kvDtype, chunkSize); parts as NativePart in lib/native.ts.
  explicit PrefillWrap(const Napi::CallbackInfo& info);

 private:
  struct Run;
  // pageSlots(model, kvDtype): what a part's firstPosition must be a multiple of.
  static Napi::Value page_slots(const Napi::CallbackInfo& info);
  // next(k, v): Promise<number>: computes K and V of the next layer, writes the rows sampled there, parts in
  // order, positions ascending (none: empty arrays), and gives the layer's number; -1 after the last one. At the
  // virtual layer k takes the final hidden states and v nothing.
  Napi::Value next(const Napi::CallbackInfo& info);
  // replay(part, positions, tokens, sampling | null, surprise, out): Promise<void>: after the virtual layer's next()
  // and before cancel(): what its hidden states at `positions` say of the tokens behind them; see core/replay.h.
  Napi::Value replay(const Napi::CallbackInfo& info);
  // drop(part): its samples are not wanted any more; their rows still come, with unspecified contents.
  void drop(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<Run> run_;
  CancelFlag cancel_;
  size_t next_layer_ = 0;
};

}  // namespace poc::binding
