#include "trace.h"

#include "../core/traced_ops.h"
#include "addon.h"
#include "args.h"

namespace poc::binding {
namespace {

constexpr size_t kChunk = 512;  // rows

Napi::Value to_js(Napi::Env env, const std::vector<TracedOp>& ops) {
  const auto list = Napi::Array::New(env, ops.size());
  for (uint32_t i = 0; i < ops.size(); ++i) {
    std::string hex;
    for (const uint8_t byte : ops[i].digest) {
      hex += "0123456789abcdef"[byte >> 4];
      hex += "0123456789abcdef"[byte & 15];
    }
    const auto entry = Napi::Object::New(env);
    entry.Set("op", ops[i].op);
    entry.Set("digest", hex);
    list.Set(i, entry);
  }
  return list;
}

}  // namespace

Napi::Value trace_ops(const Napi::CallbackInfo& info, std::shared_ptr<const Model> model, const CancelFlag& cancel) {
  const auto tokens = read_tokens(info[0], model->config);
  const Dtype kv_dtype = read_dtype(info[1]);
  const size_t layer = read_size(info[2], "layer"), position = read_size(info[3], "position");
  if (layer > model->config.num_layers) throw bad_argument("layer", "a layer of the model, or the virtual one");
  if (position >= tokens.size()) throw bad_argument("position", "one of the tokens'");
  const auto ops = std::make_shared<std::vector<TracedOp>>();
  return executor(info.Env())
      .run(
          info.Env(), cancel, {info.This()},
          [model = std::move(model), tokens, kv_dtype, layer, position, cancel, ops] {
            *ops = trace(*model, kv_dtype, tokens, layer, position, kChunk, *cancel);
          },
          [ops](Napi::Env env) { return to_js(env, *ops); });
}

}  // namespace poc::binding
