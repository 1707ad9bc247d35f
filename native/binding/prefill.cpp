#include "../core/prefill.h"

#include <deque>

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
  std::deque<LayerSamples> queued;  // layers that are computed or under way

  size_t row_bytes() const { return model->config.kv_size() * dtype_bytes(kv_dtype); }

  size_t num_sampled(size_t layer) const {
    for (size_t i = 0; i < samples.layers.size(); ++i)
      if (samples.layers[i] == layer) return samples.positions[i].size();
    return 0;
  }

  void begin() {
    ops = model->backend->ops(*cancel);
    cache = std::make_unique<KvCache>(*model, kv_dtype, tokens.size(), 1);
    pass = std::make_unique<poc::Prefill>(*model, *ops, *cache, std::vector<Part>{{tokens, samples, 0, 0, false}},
                                          chunk_size, *cancel);
  }

  // Gives memory back on the thread that worked: it may have to wait for the device.
  void release() {
    queued.clear();
    pass.reset();
    cache.reset();
    ops.reset();
  }

  // A device that works on its own gets the next layer before this one's samples are waited for, so that
  // comparing them costs it no time.
  void step(uint8_t* k, uint8_t* v) {
    if (*cancel) throw Cancelled();
    if (!pass) begin();
    while (queued.size() <= ops->layers_ahead() && pass->next()) queued.push_back(pass->take_samples());
    if (queued.empty()) return;
    const LayerSamples front = std::move(queued.front());
    queued.pop_front();
    if (!front.rows) return;
    const size_t bytes = front.num_rows * row_bytes();
    const char* rows = static_cast<const char*>(front.rows->wait());
    memcpy(k, rows, bytes);
    memcpy(v, rows + bytes, bytes);
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
    size_t needed = 0;  // nothing depends on what comes after the last sample
    for (const auto& positions : run->samples.positions) needed = std::max<size_t>(needed, positions.back() + 1);
    run->tokens.resize(needed);
    run->kv_dtype = read_dtype(info[5]);
    run->chunk_size = std::max<size_t>(1, read_size(info[6], "chunkSize"));
    run->cancel = cancel_ = owner.new_cancel_flag();
    run_ = std::move(run);
  });
}

Napi::Value PrefillWrap::next(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Run> run = run_;
    if (*cancel_) throw Cancelled();
    if (run->busy.exchange(true)) throw bad_argument("next", "called after the previous call has settled");
    try {
      const bool done = next_layer_ > run->samples.layers.back();
      const size_t bytes = done ? 0 : run->num_sampled(next_layer_) * run->row_bytes();
      uint8_t *k = read_output(info[0], bytes, "k"), *v = read_output(info[1], bytes, "v");
      const bool last = next_layer_ == run->samples.layers.back();
      const double layer = done ? -1 : static_cast<double>(next_layer_++);
      return executor(info.Env())
          .run(
              info.Env(), cancel_, {info.This(), info[0], info[1]},
              [run, k, v, done, last] {
                struct Release {  // whatever happens, the next call may come
                  Run& run;
                  ~Release() { run.busy = false; }
                } release{*run};
                try {
                  if (!done) run->step(k, v);
                  if (last || *run->cancel) run->release();
                } catch (...) {
                  *run->cancel = true;  // a pass that failed half-way must not go on
                  run->release();
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

// A run that is idle is given back at once, on a thread that may wait; a busy one does it itself.
void PrefillWrap::cancel(const Napi::CallbackInfo& info) {
  *cancel_ = true;
  const std::shared_ptr<Run> run = run_;
  if (run->busy.exchange(true)) return;
  if (!run->pass) {
    run->busy = false;
    return;
  }
  executor(info.Env())
      .run(
          info.Env(), cancel_, {},
          [run] {
            run->release();
            run->busy = false;
          },
          [](Napi::Env env) { return env.Undefined(); });
}

}  // namespace poc::binding
