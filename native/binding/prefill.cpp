#include "../core/prefill.h"

#include "addon.h"
#include "args.h"
#include "model.h"
#include "prefill.h"

namespace poc::binding {

// What a run owns. Memory is taken on the executor's thread, at the first layer.
struct PrefillWrap::Run {
  std::shared_ptr<const Model> model;
  std::vector<uint32_t> tokens;
  SampleRequest samples;
  Dtype kv_dtype;
  size_t chunk_size;
  CancelFlag cancel;
  std::atomic<bool> busy{false};
  std::unique_ptr<Ops> ops;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<poc::Prefill> pass;
  size_t next_sampled = 0;

  size_t row_bytes() const { return model->config.kv_size() * dtype_bytes(kv_dtype); }

  // Rows sampled at `layer`: null, or their positions.
  const std::vector<uint32_t>* sampled_at(size_t layer) const {
    const bool here = next_sampled < samples.layers.size() && samples.layers[next_sampled] == layer;
    return here ? &samples.positions[next_sampled] : nullptr;
  }

  void begin() {
    Cone cone = Cone::of_samples(samples.layers, samples.positions);
    const size_t rows = cone.rows[0];
    ops = model->backend->ops(*cancel);
    cache = std::make_unique<KvCache>(*model, kv_dtype, rows, 1);
    pass = std::make_unique<poc::Prefill>(*model, *ops, *cache, tokens.data(), rows, 0, std::move(cone), chunk_size);
  }

  void step(uint8_t* k, uint8_t* v) {
    if (!pass) begin();
    if (!pass->next()) return;
    const std::vector<uint32_t>* positions = sampled_at(pass->layer());
    if (!positions) return;
    std::vector<uint32_t> slots = *positions;
    if (pass->rows_gathered())
      for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<uint32_t>(i);
    ops->extract(cache->layer(pass->layer()), slots.data(), slots.size(), k, v);
    ++next_sampled;
  }
};

Napi::Function PrefillWrap::define(Napi::Env env) {
  return DefineClass(env, "Prefill",
                     {InstanceMethod("next", &PrefillWrap::next), InstanceMethod("cancel", &PrefillWrap::cancel)});
}

PrefillWrap::PrefillWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PrefillWrap>(info) {
  guarded(info.Env(), [&] {
    ModelWrap& owner = ModelWrap::unwrap(info[0]);
    auto run = std::make_shared<Run>();
    run->model = owner.model();
    const Config& c = run->model->config;
    run->tokens = read_uint32s(info[1], "tokens");
    if (run->tokens.empty()) throw bad_argument("tokens", "at least one token");
    for (const uint32_t token : run->tokens)
      if (token >= c.vocab_size)
        throw wrong_value("TOKEN_OUT_OF_RANGE", "tokens", "ids below " + std::to_string(c.vocab_size),
                          std::to_string(token));
    run->samples = read_samples(info[2], info[3], info[4], c.num_layers, 0, run->tokens.size() - 1);
    if (run->samples.layers.empty()) throw bad_argument("layers", "at least one sampled layer");
    run->kv_dtype = read_dtype(info[5]);
    run->chunk_size = std::max<size_t>(1, read_size(info[6], "chunkSize"));
    run->cancel = cancel_ = owner.new_cancel_flag();
    run_ = std::move(run);
  });
}

Napi::Value PrefillWrap::next(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Run> run = run_;
    if (run->busy.exchange(true)) throw bad_argument("next", "called after the previous call has settled");
    try {
      const bool done = next_layer_ > run->samples.layers.back();
      const std::vector<uint32_t>* positions = run->sampled_at(next_layer_);
      const size_t bytes = done || !positions ? 0 : positions->size() * run->row_bytes();
      uint8_t *k = read_output(info[0], bytes, "k"), *v = read_output(info[1], bytes, "v");
      const double layer = done ? -1 : static_cast<double>(next_layer_++);
      return executor(info.Env())
          .run(
              info.Env(), cancel_, {info.This(), info[0], info[1]},
              [run, k, v, done] {
                struct Release {  // whatever happens, the next call may come
                  Run& run;
                  ~Release() { run.busy = false; }
                } release{*run};
                try {
                  if (!done) run->step(k, v);
                } catch (...) {
                  *run->cancel = true;  // a pass that failed half-way must not go on
                  throw;
                }
              },
              [layer](Napi::Env env) { return Napi::Number::New(env, layer); });
    } catch (...) {
      run->busy = false;
      throw;
    }
  });
}

void PrefillWrap::cancel(const Napi::CallbackInfo&) { *cancel_ = true; }

}  // namespace poc::binding
