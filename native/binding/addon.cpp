// The addon's table of exports. One instance of the state per environment (main thread, each worker).
#include "addon.h"

#include <algorithm>
#include <thread>

#include "../cpu/cpu_backend.h"
#include "../cpu/extract.h"
#include "args.h"
#include "model.h"
#include "prefill.h"
#include "sequence.h"

namespace poc::binding {
namespace {

struct State {
  explicit State(Napi::Env env) : executor(env) {}
  Executor executor;
};

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
  return out;
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

// extractRows(data, layout, blockTable | null, { dtype, numKvHeads, headDim }, positions, out)
void extract(const Napi::CallbackInfo& call) {
  guarded(call.Env(), [&] {
    if (!call[0].IsTypedArray()) throw bad_argument("data", "a typed array");
    const auto data = call[0].As<Napi::TypedArray>();
    const auto shape = call[3].As<Napi::Object>();
    KvView cache;
    cache.dtype = read_dtype(shape.Get("dtype"));
    cache.num_kv_heads = read_size(shape, "numKvHeads");
    cache.head_dim = read_size(shape, "headDim");
    KvLayout layout = read_layout(call[1].As<Napi::Object>());
    const bool paged = !call[2].IsNull();
    const std::vector<uint32_t> table = paged ? read_uint32s(call[2], "blockTable") : std::vector<uint32_t>();
    if (paged) layout.block_table = table.data();
    const auto positions = read_uint32s(call[4], "positions");
    check_inside(layout, cache, positions, paged ? &table : nullptr, data.ByteLength() / dtype_bytes(cache.dtype));
    const char* base = static_cast<const char*>(data.ArrayBuffer().Data()) + data.ByteOffset();
    uint8_t* out = read_output(call[5], positions.size() * cache.row_bytes(), "out");
    cpu::extract_rows(base, layout, cache, positions.data(), positions.size(), out);
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new State(env));
  exports.Set("info", Napi::Function::New(env, info, "info"));
  exports.Set("extractRows", Napi::Function::New(env, extract, "extractRows"));
  exports.Set("Model", ModelWrap::define(env));
  exports.Set("Prefill", PrefillWrap::define(env));
  exports.Set("Sequence", SequenceWrap::define(env));
  return exports;
}

}  // namespace

Executor& executor(Napi::Env env) { return env.GetInstanceData<State>()->executor; }

}  // namespace poc::binding

static Napi::Object InitAddon(Napi::Env env, Napi::Object exports) { return poc::binding::init(env, exports); }
NODE_API_MODULE(NODE_GYP_MODULE_NAME, InitAddon)
