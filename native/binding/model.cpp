#include "model.h"

#include <map>

#include "../core/mapped_file.h"
#include "../cpu/cpu_backend.h"
#include "addon.h"
#include "args.h"

namespace poc::binding {
namespace {

constexpr napi_type_tag kTag = {0x706f632d6d6f6465ull, 0x6c2d76312d746167ull};

}  // namespace

// The arguments of a load, and its result.
struct ModelWrap::Source {
  Config config;
  size_t num_threads = 1;
  std::string simd;
  std::vector<std::pair<std::string, size_t>> files;  // path, bytes
  std::map<std::string, StoredTensor> tensors;
  size_t total_bytes = 0;
  std::atomic<size_t> loaded{0};
  std::shared_ptr<const Model> model;

  void load(const std::atomic<bool>& cancelled) {
    std::vector<MappedFile> mapped;
    for (const auto& [path, bytes] : files) mapped.emplace_back(path, bytes);
    const TensorSource find = [&](const std::string& name) {
      const auto it = tensors.find(name);
      if (it == tensors.end()) throw wrong_value("MODEL_MALFORMED", name, "present", "nothing");
      const StoredTensor& t = it->second;
      return TensorView{mapped[t.file].data() + t.offset, t.dtype, t.rows, t.cols, it->first.c_str()};
    };
    model = load_model(cpu::make_backend(num_threads, simd), config, find, cancelled, loaded);
  }
};

Napi::Function ModelWrap::define(Napi::Env env) {
  return DefineClass(env, "Model",
                     {InstanceMethod("load", &ModelWrap::load), InstanceMethod("progress", &ModelWrap::progress),
                      InstanceMethod("close", &ModelWrap::cancel)});
}

ModelWrap::ModelWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelWrap>(info) {
  guarded(info.Env(), [&] {
    info.This().As<Napi::Object>().TypeTag(&kTag);
    source_ = std::make_shared<Source>();
    source_->config = read_config(info[0].As<Napi::Object>());
    const auto files = info[1].As<Napi::Array>(), tensors = info[2].As<Napi::Array>();
    const auto options = info[3].As<Napi::Object>();
    source_->num_threads = std::max<size_t>(1, std::min<size_t>(1024, read_size(options, "threads")));
    source_->simd = read_string(options.Get("simd"), "simd");
    for (uint32_t i = 0; i < files.Length(); ++i) {
      const auto file = files.Get(i).As<Napi::Object>();
      source_->files.emplace_back(read_string(file.Get("path"), "path"), read_size(file, "bytes"));
    }
    for (uint32_t i = 0; i < tensors.Length(); ++i) {
      const auto t = tensors.Get(i).As<Napi::Object>();
      const StoredTensor stored{read_dtype(t.Get("dtype")), read_size(t, "rows"), read_size(t, "cols"),
                                read_size(t, "file"), read_size(t, "offset")};
      const std::string name = read_string(t.Get("name"), "name");
      constexpr size_t kMost = size_t{1} << 48;
      const bool sane = stored.file < source_->files.size() && stored.cols > 0 && stored.cols < kMost &&
                        stored.rows < kMost / stored.cols && stored.offset < kMost;
      const size_t bytes = sane ? stored.rows * stored.cols * dtype_bytes(stored.dtype) : 0;
      if (!sane || stored.offset + bytes > source_->files[stored.file].second)
        throw wrong_value("MODEL_MALFORMED", name, "inside its file", "an offset or shape beyond it");
      source_->tensors[name] = stored;
      source_->total_bytes += bytes;
    }
  });
}

ModelWrap& ModelWrap::unwrap(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) throw bad_argument("model", "a Model");
  return *Napi::ObjectWrap<ModelWrap>::Unwrap(value.As<Napi::Object>());
}

std::shared_ptr<const Model> ModelWrap::model() const {
  if (closed_) throw Error("CLOSED", "The model is closed", "model");
  if (!model_) throw Error("INTERNAL", "The model is not loaded", "model");
  return model_;
}

CancelFlag ModelWrap::new_cancel_flag() {
  flags_.erase(std::remove_if(flags_.begin(), flags_.end(), [](const auto& flag) { return flag.expired(); }),
               flags_.end());
  const auto flag = std::make_shared<std::atomic<bool>>(false);
  flags_.push_back(flag);
  return flag;
}

Napi::Value ModelWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (closed_ || !source_) throw Error("CLOSED", "The model is closed or loaded", "model");
    const CancelFlag cancel = new_cancel_flag();
    const std::shared_ptr<Source> source = source_;
    return executor(info.Env())
        .run(
            info.Env(), cancel, {info.This()}, [source, cancel] { source->load(*cancel); },
            [this, source](Napi::Env env) {
              if (!closed_) model_ = source->model;
              source_.reset();
              return env.Undefined();
            });
  });
}

Napi::Value ModelWrap::progress(const Napi::CallbackInfo& info) {
  const double total = source_ ? static_cast<double>(source_->total_bytes) : 0;
  return Napi::Number::New(info.Env(), total > 0 ? static_cast<double>(source_->loaded) / total : 1);
}

// close(): no new runs; those under way stop at their next block and free the weights when they end.
void ModelWrap::cancel(const Napi::CallbackInfo&) {
  closed_ = true;
  for (const auto& weak : flags_)
    if (const auto flag = weak.lock()) *flag = true;
  model_.reset();
}

}  // namespace poc::binding
