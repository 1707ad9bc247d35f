#include "model.h"

#include "../core/file_reader.h"
#include "../core/mapped_file.h"
#include "../core/packed_file.h"
#include "../cpu/cpu_backend.h"
#include "../cpu/kernels.h"
#include "../cuda/module_backend.h"
#include "../cuda/open.h"
#include "addon.h"
#include "args.h"
#include "trace.h"

namespace poc::binding {
namespace {

constexpr napi_type_tag kTag = {0x706f632d6d6f6465ull, 0x6c2d76312d746167ull};

// A thread's memory for the tensor that it read last, as large as the largest one so far.
struct Scratch {
  std::unique_ptr<char[]> data;
  size_t bytes = 0;

  char* of(size_t wanted) {
    if (wanted > bytes) {
      data.reset();  // before the new one is taken
      bytes = 0;
      data.reset(new char[wanted]);
      bytes = wanted;
    }
    return data.get();
  }
};
thread_local Scratch scratch;

const StoredTensor& stored(const Tensors& tensors, const std::string& name) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) throw wrong_value("MODEL_MALFORMED", name, "present", "nothing");
  return it->second;
}

// Reads a tensor anew whenever it is asked for; passes do so from threads of their own.
TensorSource reading_source(const std::vector<StoredFile>& files, const std::shared_ptr<const Tensors>& tensors) {
  const auto readers = std::make_shared<std::vector<FileReader>>();
  for (const auto& [path, bytes] : files) readers->emplace_back(path, bytes);
  return [readers, tensors](const std::string& name) {
    const StoredTensor& t = stored(*tensors, name);
    const size_t bytes = t.rows * t.cols * dtype_bytes(t.dtype);
    char* data = scratch.of(bytes);
    (*readers)[t.file].read(t.offset, bytes, data);
    return TensorView{data, t.dtype, t.rows, t.cols, tensors->find(name)->first.c_str()};
  };
}

// Looks at mapped files, which go with it.
TensorSource mapped_source(const std::vector<StoredFile>& files, const std::shared_ptr<const Tensors>& tensors) {
  const auto mapped = std::make_shared<std::vector<MappedFile>>();
  for (const auto& [path, bytes] : files) mapped->emplace_back(path, bytes);
  return [mapped, tensors](const std::string& name) {
    const StoredTensor& t = stored(*tensors, name);
    return TensorView{(*mapped)[t.file].data() + t.offset, t.dtype, t.rows, t.cols, tensors->find(name)->first.c_str()};
  };
}

// Types and shapes alone.
TensorSource shape_source(const std::shared_ptr<const Tensors>& tensors) {
  return [tensors](const std::string& name) {
    const StoredTensor& t = stored(*tensors, name);
    return TensorView{nullptr, t.dtype, t.rows, t.cols, tensors->find(name)->first.c_str()};
  };
}

// Whether it is CUDA.
bool read_backend(const Napi::Value& value) {
  const std::string name = read_string(value, "backend");
  if (name != "cpu" && name != "cuda") throw bad_argument("backend", "cpu or cuda");
  return name == "cuda";
}

std::unique_ptr<Backend> cuda_backend(const std::string& path, size_t device, const Config& config) {
  const cuda::Module& module = cuda::open_module(path);
  if (!module.api) throw Error("BACKEND_UNAVAILABLE", "The CUDA backend is not available: " + module.reason, "backend");
  if (device >= module.devices.size())
    throw wrong_value("INVALID_ARGUMENT", "device", "below " + std::to_string(module.devices.size()),
                      std::to_string(device));
  if (config.head_dim > cuda::kMaxHeadDim)
    throw wrong_value("MODEL_UNSUPPORTED", "head_dim",
                      "at most " + std::to_string(cuda::kMaxHeadDim) + " on the CUDA backend",
                      std::to_string(config.head_dim));
  return cuda::make_backend(*module.api, static_cast<int>(device));
}

}  // namespace

// The arguments of a load, and its result.
struct ModelWrap::Source {
  Config config;
  size_t num_threads = 1, device = 0;
  size_t budget_bytes = kNoBudget;
  std::string simd, cuda_path;
  bool on_cuda = false;
  std::shared_ptr<OpTimes> op_times;  // null: ops are not timed
  std::vector<StoredFile> files;
  std::shared_ptr<Tensors> tensors = std::make_shared<Tensors>();
  size_t total_bytes = 0;
  std::atomic<size_t> loaded{0};
  std::shared_ptr<const Model> model;

  std::unique_ptr<Backend> backend() const {
    auto made = on_cuda ? cuda_backend(cuda_path, device, config) : cpu::make_backend(num_threads, simd);
    return op_times ? timed(std::move(made), op_times) : std::move(made);
  }

  // Calls f with the stored tensors: mapped, or under a budget read one at a time.
  template <class F>
  void with_tensors(F f) {
    struct Release {  // what this thread read into
      ~Release() { scratch = {}; }
    } release;
    loaded = 0;
    f(budget_bytes == kNoBudget ? mapped_source(files, tensors) : reading_source(files, tensors));
  }

  void load(const std::atomic<bool>& cancelled) {
    auto made = backend();
    with_tensors([&](const TensorSource& source) {
      model = load_model(std::move(made), config, source, cancelled, loaded, budget_bytes);
    });
  }

  void load_packed(const std::string& path, const std::string& header) {
    auto made = backend();
    Weights weights = map_packed_file(path, header, *made, config, shape_source(tensors), budget_bytes);
    model = make_model(std::move(made), config, std::move(weights));
  }

  std::string write_packed(const std::string& path, const std::atomic<bool>& cancelled) {
    const auto made = backend();
    std::string failure;
    with_tensors([&](const TensorSource& source) {
      failure = write_packed_file(path, *made, config, source, cancelled, loaded);
    });
    return failure;
  }
};

Napi::Function ModelWrap::define(Napi::Env env) {
  return DefineClass(env, "Model",
                     {InstanceMethod("load", &ModelWrap::load), InstanceMethod("loadPacked", &ModelWrap::load_packed),
                      InstanceMethod("writePacked", &ModelWrap::write_packed),
                      InstanceMethod("packedLayout", &ModelWrap::packed_layout),
                      InstanceMethod("progress", &ModelWrap::progress), InstanceMethod("opTimes", &ModelWrap::op_times),
                      InstanceMethod("trace", &ModelWrap::trace), InstanceMethod("close", &ModelWrap::cancel)});
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
    source_->on_cuda = read_backend(options.Get("backend"));
    source_->device = read_size(options, "device");
    if (options.Get("timeOps").ToBoolean()) source_->op_times = op_times_ = std::make_shared<OpTimes>();
    if (const size_t budget = read_size(options, "weightBudgetBytes")) source_->budget_bytes = budget;
    source_->cuda_path = cuda_module_path(info.Env());
    for (uint32_t i = 0; i < files.Length(); ++i) {
      const auto file = files.Get(i).As<Napi::Object>();
      source_->files.emplace_back(read_string(file.Get("path"), "path"), read_size(file, "bytes"));
    }
    for (uint32_t i = 0; i < tensors.Length(); ++i) {
      const auto t = tensors.Get(i).As<Napi::Object>();
      const StoredTensor tensor{read_dtype(t.Get("dtype")), read_size(t, "rows"), read_size(t, "cols"),
                                read_size(t, "file"), read_size(t, "offset")};
      const std::string name = read_string(t.Get("name"), "name");
      constexpr size_t kMost = size_t{1} << 48;
      const bool sane = tensor.file < source_->files.size() && tensor.cols > 0 && tensor.cols < kMost &&
                        tensor.rows < kMost / tensor.cols && tensor.offset < kMost;
      const size_t bytes = sane ? tensor.rows * tensor.cols * dtype_bytes(tensor.dtype) : 0;
      if (!sane || tensor.offset + bytes > source_->files[tensor.file].second)
        throw wrong_value("MODEL_MALFORMED", name, "inside its file", "an offset or shape beyond it");
      (*source_->tensors)[name] = tensor;
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

// Of a model that is not loaded yet.
std::shared_ptr<ModelWrap::Source> ModelWrap::source() const {
  if (closed_ || !source_) throw Error("CLOSED", "The model is closed or loaded", "model");
  return source_;
}

Napi::Value ModelWrap::run_load(const Napi::CallbackInfo& info, std::function<void(Source&, std::atomic<bool>&)> load) {
  const std::shared_ptr<Source> source = this->source();
  const CancelFlag cancel = new_cancel_flag();
  return executor(info.Env())
      .run(
          info.Env(), cancel, {info.This()}, [source, cancel, load] { load(*source, *cancel); },
          [this, source](Napi::Env env) {
            if (!closed_) model_ = source->model;
            source_.reset();
            return env.Undefined();
          });
}

Napi::Value ModelWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return run_load(info, [](Source& source, const std::atomic<bool>& cancelled) { source.load(cancelled); });
  });
}

Napi::Value ModelWrap::load_packed(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::string path = read_packed_path(info[0]);
    if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      throw bad_argument("header", "a Uint8Array");
    const auto bytes = info[1].As<Napi::Uint8Array>();
    const std::string header(bytes.Data(), bytes.Data() + bytes.ByteLength());
    return run_load(info,
                    [path, header](Source& source, const std::atomic<bool>&) { source.load_packed(path, header); });
  });
}

Napi::Value ModelWrap::write_packed(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string path = read_packed_path(info[0]);
    const std::shared_ptr<Source> source = this->source();
    const CancelFlag cancel = new_cancel_flag();
    const auto failure = std::make_shared<std::string>();
    return executor(info.Env())
        .run(
            info.Env(), cancel, {info.This()},
            [source, cancel, path, failure] { *failure = source->write_packed(path, *cancel); },
            [failure](Napi::Env env) { return Napi::String::New(env, *failure); });
  });
}

std::string ModelWrap::read_packed_path(const Napi::Value& value) const {
  if (source()->on_cuda) throw bad_argument("backend", "cpu");
  return read_string(value, "path");
}

Napi::Value ModelWrap::packed_layout(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), std::to_string(kPackedVersion) + ": panels of " + std::to_string(cpu::kPanel) +
                                           ", aligned to " + std::to_string(kPackedAlignment) + ", from byte " +
                                           std::to_string(kPackedHeaderBytes));
}

Napi::Value ModelWrap::progress(const Napi::CallbackInfo& info) {
  const double total = source_ ? static_cast<double>(source_->total_bytes) : 0;
  return Napi::Number::New(info.Env(), total > 0 ? static_cast<double>(source_->loaded) / total : 1);
}

Napi::Value ModelWrap::op_times(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!op_times_) throw wrong_value("INVALID_ARGUMENT", "timeOps", "true when the model is loaded", "false");
    const std::vector<OpTime> times = op_times_->list();
    const auto list = Napi::Array::New(info.Env(), times.size());
    for (uint32_t i = 0; i < times.size(); ++i) {
      const auto entry = Napi::Object::New(info.Env());
      entry.Set("op", times[i].op);
      entry.Set("calls", static_cast<double>(times[i].calls));
      entry.Set("seconds", times[i].seconds);
      list.Set(i, entry);
    }
    return list;
  });
}

Napi::Value ModelWrap::trace(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return trace_ops(info, model(), new_cancel_flag()); });
}

// close(): no new runs; those under way stop at their next block and free the weights when they end.
void ModelWrap::cancel(const Napi::CallbackInfo&) {
  closed_ = true;
  for (const auto& weak : flags_)
    if (const auto flag = weak.lock()) *flag = true;
  model_.reset();
}

}  // namespace poc::binding
