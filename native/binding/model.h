// The JS class Model: weights loaded off the JS thread, shared by every run that uses them.
#pragma once
#include <napi.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/model.h"
#include "../core/timed_ops.h"
#include "executor.h"

namespace poc::binding {

struct StoredTensor {
  Dtype dtype;
  size_t rows, cols, file, offset;
};
using Tensors = std::map<std::string, StoredTensor>;
using StoredFile = std::pair<std::string, size_t>;  // path, bytes

class ModelWrap : public Napi::ObjectWrap<ModelWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // new Model(config, files, tensors, options); see lib/native.ts.
  explicit ModelWrap(const Napi::CallbackInfo& info);

  // The loaded model of a JS object; throws INVALID_ARGUMENT for another object, CLOSED, or when unloaded.
  static ModelWrap& unwrap(const Napi::Value& value);
  std::shared_ptr<const Model> model() const;
  // A cancel flag that close() will set too.
  CancelFlag new_cancel_flag();

 private:
  struct Source;
  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value load_packed(const Napi::CallbackInfo& info);
  Napi::Value write_packed(const Napi::CallbackInfo& info);
  Napi::Value packed_layout(const Napi::CallbackInfo& info);
  Napi::Value run_load(const Napi::CallbackInfo& info, std::function<void(Source&, std::atomic<bool>&)> load);
  std::shared_ptr<Source> source() const;
  std::string read_packed_path(const Napi::Value& value) const;
  Napi::Value progress(const Napi::CallbackInfo& info);
  Napi::Value trace(const Napi::CallbackInfo& info);
  Napi::Value op_times(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<Source> source_;  // what to load; null once loaded
  std::shared_ptr<const Model> model_;
  std::shared_ptr<OpTimes> op_times_;  // null: ops are not timed
  std::vector<std::weak_ptr<std::atomic<bool>>> flags_;
  bool closed_ = false;
};

}  // namespace poc::binding
