// Model.trace(tokens, kvDtype, layer, position): Promise<{ op, digest }[]>, digests as hex; see core/traced_ops.h.
#pragma once
#include <napi.h>

#include "../core/model.h"
#include "executor.h"

namespace poc::binding {

Napi::Value trace_ops(const Napi::CallbackInfo& info, std::shared_ptr<const Model> model, const CancelFlag& cancel);

}  // namespace poc::binding
