// The addon's table of exports. One instance of the state per environment (main thread, each worker).
#include "addon.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "../core/leaves.h"
#include "../cpu/cpu_backend.h"
#include "../cpu/extract.h"
#include "../cuda/module_backend.h"
#include "../cuda/open.h"
#include "args.h"
#include "model.h"
#include "prefill.h"
#include "sequence.h"

namespace poc::binding {
namespace {

// Backends that hold no model: for caches of others, one for each device that was asked for.
class DeviceBackends {
 public:
  std::shared_ptr<Backend> get(const cuda::Api& api, int device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto& backend = backends_[{&api, device}];
    if (!backend) backend = cuda::make_backend(api, device);
    return backend;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<const cuda::Api*, int>, std::shared_ptr<Backend>> backends_;
};

struct State {
  explicit State(Napi::Env env) : executor(env) {}
  std::string cuda_module_path;
  std::shared_ptr<DeviceBackends> devices = std::make_shared<DeviceBackends>();
  Executor executor;
};

// { available, reason, path, devices }: looks for the module, and opens it where it can be used.
Napi::Object cuda_info(Napi::Env env) {
  const cuda::Module& module = cuda::open_module(cuda_module_path(env));
  Napi::Object out = Napi::Object::New(env);
  out.Set("available", module.api != nullptr);
  out.Set("reason", module.reason);
  out.Set("path", module.path);
  Napi::Array devices = Napi::Array::New(env, module.devices.size());
  for (uint32_t i = 0; i < module.devices.size(); ++i) {
    const cuda::AbiDevice& device = module.devices[i];
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", std::string(device.name));
    one.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
    one.Set("multiprocessors", device.multiprocessors);
    one.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    devices[i] = one;
  }
  out.Set("devices", devices);
  return out;
}

Napi::Value info(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  Napi::Object out = Napi::Object::New(env);
  out.Set("version", POC_VERSION);
  out.Set("napi", NAPI_VERSION);
  const auto set = [&](const char* key, const std::vector<std::string>& names) {
    Napi::Array array = Napi::Array::New(env, names.size());
    for (uint32_t i = 0; i < names.size(); ++i) array[i] = Napi::String::New(env, names[i]);
    out.Set(key, array);
  };
  set("simd", cpu::available_simd());
  set("features", cpu::cpu_features());
  out.Set("cuda", cuda_info(env));
  return out;
}

// openCuda(): Promise of info().cuda. Asking a driver for its devices takes a while the first time.
Napi::Value open_cuda(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  return executor(env).run(
      env, std::make_shared<std::atomic<bool>>(false), {}, [path = cuda_module_path(env)] { cuda::open_module(path); },
      [](Napi::Env e) { return cuda_info(e); });
}

// useCudaModule(path): for all that follows in this environment; empty: the one beside the addon.
void use_cuda_module(const Napi::CallbackInfo& call) {
  guarded(call.Env(), [&] { call.Env().GetInstanceData<State>()->cuda_module_path = read_string(call[0], "path"); });
}

KvLayout read_layout(const Napi::Object& o) {
  return {read_size(o, "pageSize"),   read_size(o, "pageStride"), read_size(o, "slotStride"),
          read_size(o, "headStride"), read_size(o, "dimStride"),  nullptr,
          read_size(o, "dimSplit"),   read_size(o, "splitStride")};
}

// Refuses positions whose rows do not lie inside the cache. In 128 bits, so that no product wraps.
void check_inside(const KvLayout& layout, const KvView& cache, const std::vector<uint32_t>& positions,
                  const std::vector<uint32_t>* table, size_t elements) {
  using Wide = unsigned __int128;
  if (layout.page_size == 0) throw bad_argument("layout.pageSize", "positive");
  if (cache.num_kv_heads - 1 > 4095 || cache.head_dim - 1 > 4095)
    throw bad_argument("layout", "of 1 to 4096 heads and dims");
  const size_t last_dim = cache.head_dim - 1, groups = layout.dim_split ? last_dim / layout.dim_split : 0;
  Wide row = Wide{groups} * layout.split_stride + Wide{last_dim - groups * layout.dim_split} * layout.dim_stride;
  // The last group may be shorter than the one before it, which then may reach further.
  if (groups)
    row = std::max(row, Wide{groups - 1} * layout.split_stride + Wide{layout.dim_split - 1} * layout.dim_stride);
  row += Wide{cache.num_kv_heads - 1} * layout.head_stride;
  for (const uint32_t position : positions) {
    size_t page = position / layout.page_size;
    if (table && page >= table->size()) throw bad_argument("layout.blockTable", "an entry for every sampled page");
    if (table) page = (*table)[page];
    const Wide last = Wide{page} * layout.page_stride + Wide{position % layout.page_size} * layout.slot_stride + row;
    if (last >= elements) throw bad_argument("data", "large enough for every sampled position");
  }
}

// What both kinds of extraction are told: layout, blockTable | null, { dtype, numKvHeads, headDim }, positions, out.
struct Extraction {
  KvView cache;
  KvLayout layout;
  bool paged;
  std::vector<uint32_t> table, positions;
  uint8_t* out;

  Extraction(const Napi::CallbackInfo& call, size_t first)
      : layout(read_layout(call[first].As<Napi::Object>())), paged(!call[first + 1].IsNull()) {
    const auto shape = call[first + 2].As<Napi::Object>();
    cache.dtype = read_dtype(shape.Get("dtype"));
    cache.num_kv_heads = read_size(shape, "numKvHeads");
    cache.head_dim = read_size(shape, "headDim");
    if (paged) table = read_uint32s(call[first + 1], "blockTable");
    positions = read_uint32s(call[first + 3], "positions");
    out = read_output(call[first + 4], positions.size() * cache.row_bytes(), "out");
  }

  void check(size_t bytes) const {
    check_inside(layout, cache, positions, paged ? &table : nullptr, bytes / dtype_bytes(cache.dtype));
  }
};

// extractRows(data, ...Extraction)
void extract(const Napi::CallbackInfo& call) {
  guarded(call.Env(), [&] {
    if (!call[0].IsTypedArray()) throw bad_argument("data", "a typed array");
    const auto data = call[0].As<Napi::TypedArray>();
    Extraction rows(call, 1);
    rows.check(data.ByteLength());
    if (rows.paged) rows.layout.block_table = rows.table.data();
    const char* base = static_cast<const char*>(data.ArrayBuffer().Data()) + data.ByteOffset();
    cpu::extract_rows(base, rows.layout, rows.cache, rows.positions.data(), rows.positions.size(), rows.out);
  });
}

// As above, for memory of a device. Nothing is read before the driver has said how far the allocation goes.
void extract_on_device(DeviceBackends& devices, const std::string& module_path, size_t device, uint64_t pointer,
                       Extraction& rows, const std::atomic<bool>& cancelled) {
  const cuda::Module& module = cuda::open_module(module_path);
  if (!module.api) throw Error("BACKEND_UNAVAILABLE", "The CUDA backend is not available: " + module.reason, "backend");
  if (device >= module.devices.size()) throw bad_argument("device", "below " + std::to_string(module.devices.size()));
  const int number = static_cast<int>(device);
  void* data = reinterpret_cast<void*>(static_cast<uintptr_t>(pointer));
  const size_t bytes = module.api->bytes_behind(number, data);
  if (bytes == 0) throw bad_argument("pointer", "memory of device " + std::to_string(device));
  if (pointer % dtype_bytes(rows.cache.dtype) != 0) throw bad_argument("pointer", "aligned to the dtype");
  rows.check(bytes);
  if (rows.positions.empty()) return;
  const auto backend = devices.get(*module.api, number);
  const auto upload = [&](const std::vector<uint32_t>& values) {
    return backend->upload(values.data(), values.size() * sizeof(uint32_t));
  };
  const auto ops = backend->ops(cancelled);
  const auto positions = upload(rows.positions), table = rows.paged ? upload(rows.table) : nullptr;
  rows.cache.k = data;
  rows.cache.k_layout = rows.layout;
  if (table) rows.cache.k_layout.block_table = static_cast<const uint32_t*>(table->data());
  const size_t out_bytes = rows.positions.size() * rows.cache.row_bytes();
  const std::shared_ptr<Buffer> copied = backend->allocate(out_bytes);
  ops->extract(rows.cache, static_cast<const uint32_t*>(positions->data()), rows.positions.size(), copied->data(),
               nullptr);
  memcpy(rows.out, ops->download(copied, out_bytes)->wait(), out_bytes);
}

// extractRowsFromDevice(device, pointer, ...Extraction): { done: Promise, cancel() }
Napi::Value extract_from_device(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Napi::Env env = call.Env();
    constexpr size_t kMostPositions = size_t{1} << 24;  // what a launch can count
    bool whole = false;
    const size_t device = read_size(call[0], "device");
    const uint64_t pointer = call[1].IsBigInt() ? call[1].As<Napi::BigInt>().Uint64Value(&whole) : 0;
    if (!whole) throw bad_argument("pointer", "a BigInt of at most 64 bits");
    const auto rows = std::make_shared<Extraction>(call, 2);
    if (rows->positions.size() > kMostPositions) throw bad_argument("positions", "at most 2^24 positions");
    const auto devices = env.GetInstanceData<State>()->devices;
    const CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);
    Napi::Object out = Napi::Object::New(env);
    out.Set("done", executor(env).run(
                        env, cancel, {call[6]},
                        [devices, path = cuda_module_path(env), device, pointer, rows, cancel] {
                          extract_on_device(*devices, path, device, pointer, *rows, *cancel);
                        },
                        [](Napi::Env e) { return e.Undefined(); }));
    out.Set("cancel", Napi::Function::New(env, [cancel](const Napi::CallbackInfo&) { *cancel = true; }));
    return out;
  });
}

// merkleTree(leaves): Promise of all nodes above the leaves, level by level, the head last.
Napi::Value merkle_tree(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Napi::Env env = call.Env();
    const Napi::Value given = call[0];
    if (!given.IsTypedArray() || given.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      throw bad_argument("leaves", "a Uint8Array");
    auto leaves = given.As<Napi::Uint8Array>();
    const size_t count = leaves.ByteLength() / kDigestBytes;
    if (count == 0 || leaves.ByteLength() % kDigestBytes != 0)
      throw bad_argument("leaves", "one or more digests of " + std::to_string(kDigestBytes) + " bytes");
    auto nodes = Napi::Uint8Array::New(env, nodes_above(count) * kDigestBytes);
    const auto kept = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(nodes));
    const CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);
    const size_t threads = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
    return executor(env).run(
        env, cancel, {given, nodes},
        [in = leaves.Data(), count, threads, out = nodes.Data(), cancel] {
          hash_tree(in, count, threads, out, *cancel);
        },
        [kept](Napi::Env) { return kept->Value(); });
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new State(env));
  exports.Set("info", Napi::Function::New(env, info, "info"));
  exports.Set("openCuda", Napi::Function::New(env, open_cuda, "openCuda"));
  exports.Set("useCudaModule", Napi::Function::New(env, use_cuda_module, "useCudaModule"));
  exports.Set("extractRowsFromDevice", Napi::Function::New(env, extract_from_device, "extractRowsFromDevice"));
  exports.Set("extractRows", Napi::Function::New(env, extract, "extractRows"));
  exports.Set("merkleTree", Napi::Function::New(env, merkle_tree, "merkleTree"));
  exports.Set("Model", ModelWrap::define(env));
  exports.Set("Prefill", PrefillWrap::define(env));
  exports.Set("Sequence", SequenceWrap::define(env));
  return exports;
}

}  // namespace

Executor& executor(Napi::Env env) { return env.GetInstanceData<State>()->executor; }

const std::string& cuda_module_path(Napi::Env env) { return env.GetInstanceData<State>()->cuda_module_path; }

}  // namespace poc::binding

static Napi::Object InitAddon(Napi::Env env, Napi::Object exports) { return poc::binding::init(env, exports); }
NODE_API_MODULE(NODE_GYP_MODULE_NAME, InitAddon)
