#include "../core/prefill.h"

#include <algorithm>
#include <deque>

#include "../core/replay.h"

#include "addon.h"
#include "args.h"
#include "model.h"
#include "prefill.h"

namespace poc::binding {

namespace {

size_t page_slots_of(const Model& model, Dtype kv_dtype) {
  size_t k_bytes, v_bytes;
  return model.backend->kv_layout(model.config, kv_dtype, 1, &k_bytes, &v_bytes).page_slots();
}

// How many parts it continues, one by way of the other.
size_t depth_of(const std::vector<Part>& parts, const Part& part) {
  size_t depth = 0;
  for (size_t at = part.parent; at != kNoParent; at = parts[at].parent) ++depth;
  return depth;
}

// The part of a NativePart, behind those that are already there.
Part read_part(const Napi::Object& object, const std::vector<Part>& before, const Config& config, size_t page_slots) {
  Part part;
  part.tokens = read_tokens(object.Get("tokens"), config);
  part.first_position = read_size(object, "firstPosition");
  size_t shared = 0;
  if (!object.Get("parent").IsNull()) {
    part.parent = read_size(object, "parent");
    if (part.parent >= before.size()) throw bad_argument("parent", "a part before this one");
    if (depth_of(before, part) > kMaxSharedRuns) throw bad_argument("parent", "a part that continues fewer others");
    shared = before[part.parent].first_position + before[part.parent].tokens.size();
  }
  if (part.first_position > shared || part.first_position % page_slots != 0)
    throw bad_argument("firstPosition", "a multiple of pageSlots() that the parent reaches");
  const size_t positions = part.first_position + part.tokens.size();
  if (positions == 0) throw bad_argument("tokens", "at least one token");
  part.samples = read_samples(object.Get("layers"), object.Get("counts"), object.Get("positions"), config.num_layers, 0,
                              positions - 1);
  return part;
}

}  // namespace

// What a run owns. Memory is taken on the executor's thread, at the first layer.
struct PrefillWrap::Run {
  std::shared_ptr<const Model> model;  // null when the run is over: the object may live on, the weights must not
  std::vector<Part> parts;
  std::vector<std::atomic<bool>> dropped;  // of each part; set on the JS thread, cleared where it is done
  std::vector<size_t> num_sampled;         // at each layer up to the deepest one that is sampled
  Dtype kv_dtype;
  size_t chunk_size;
  CancelFlag cancel;
  std::atomic<bool> busy{false};
  std::unique_ptr<Ops> ops;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<poc::Prefill> pass;
  std::deque<LayerSamples> queued;  // layers that are computed or under way
  // The virtual layer, once next() has resolved with it: its rows stay for replays, the rest is given back.
  std::shared_ptr<Buffer> final_memory;
  poc::Rows final_rows;
  std::vector<uint32_t> final_places;  // in final_rows, of each sample

  void add(Part part) {
    for (size_t i = 0; i < part.samples.layers.size(); ++i) {
      const size_t layer = part.samples.layers[i];
      num_sampled.resize(std::max(num_sampled.size(), layer + 1));
      num_sampled[layer] += part.samples.positions[i].size();
    }
    parts.push_back(std::move(part));
  }

  void begin() {
    ops = model->backend->ops(*cancel);
    cache = std::make_unique<KvCache>(*model, kv_dtype, lay_out(&parts, page_slots_of(*model, kv_dtype)), 1);
    pass = std::make_unique<poc::Prefill>(*model, *ops, *cache, parts, chunk_size, *cancel);
  }

  SampleBytes bytes_of(size_t layer) const { return sample_bytes(model->config, kv_dtype, layer, num_sampled[layer]); }
  bool begun() const { return ops != nullptr; }
  bool virtual_layer() const { return num_sampled.size() > model->config.num_layers; }

  // Gives memory back on the thread that worked: it may have to wait for the device.
  void release() {
    release_pass();
    final_memory.reset();
    ops.reset();
    model.reset();
  }

  void release_pass() {
    queued.clear();
    pass.reset();
    cache.reset();
  }

  // What replays need is kept.
  void end_pass() {
    if (!virtual_layer()) return release();
    final_rows = pass->final_rows();
    final_memory = pass->final_memory();
    release_pass();
  }

  // Which rows of the virtual layer a part samples at these positions, each of which it must sample.
  std::vector<uint32_t> final_rows_of(size_t part, const std::vector<uint32_t>& positions) const {
    const auto of = [&](size_t i) -> const std::vector<uint32_t>* {
      const SampleRequest& samples = parts[i].samples;
      const bool sampled = !samples.layers.empty() && samples.layers.back() == model->config.num_layers;
      return sampled ? &samples.positions.back() : nullptr;
    };
    size_t first = 0;  // of the part's samples
    for (size_t i = 0; i < part; ++i) first += of(i) ? of(i)->size() : 0;
    std::vector<uint32_t> rows;
    for (const uint32_t position : positions) {
      const std::vector<uint32_t>* sampled = of(part);
      const auto found = sampled ? std::lower_bound(sampled->begin(), sampled->end(), position) : positions.end();
      if (!sampled || found == sampled->end() || *found != position)
        throw bad_argument("positions", "sampled at the virtual layer by the part");
      rows.push_back(final_places[first + static_cast<size_t>(found - sampled->begin())]);
    }
    return rows;
  }

  // The arguments of replay(), but for the last one.
  Replay read_replay(const Napi::CallbackInfo& info) const {
    if (!final_memory) throw bad_argument("replay", "called after the virtual layer");
    Replay claimed;
    const size_t part = read_size(info[0], "part");
    if (part >= parts.size()) throw bad_argument("part", "a part of this pass");
    claimed.positions = read_uint32s(info[1], "positions");
    claimed.tokens = read_tokens(info[2], model->config);
    claimed.rows = final_rows_of(part, claimed.positions);
    if (claimed.tokens.size() != claimed.positions.size()) throw bad_argument("tokens", "one a position");
    for (uint32_t& position : claimed.positions) ++position;  // where the token behind stands
    if (info[3].IsObject()) claimed.sampling = read_sampling(info[3].As<Napi::Object>());
    claimed.surprise = info[4].ToBoolean();
    return claimed;
  }

  // A device that works on its own gets the next layer before this one's samples are waited for, so that
  // comparing them costs it no time.
  void step(uint8_t* k, uint8_t* v) {
    if (*cancel) throw Cancelled();
    if (!pass) begin();
    std::vector<size_t> now;
    for (size_t part = 0; part < parts.size(); ++part)
      if (dropped[part].exchange(false)) now.push_back(part);
    if (!now.empty()) pass->drop(now);
    while (queued.size() <= ops->layers_ahead() && pass->next()) queued.push_back(pass->take_samples());
    if (queued.empty()) return;
    const LayerSamples front = std::move(queued.front());
    queued.pop_front();
    front.copy(k, v);
    if (front.layer == model->config.num_layers) final_places = front.places;
  }
};

Napi::Function PrefillWrap::define(Napi::Env env) {
  return DefineClass(env, "Prefill",
                     {StaticMethod("pageSlots", &PrefillWrap::page_slots), InstanceMethod("next", &PrefillWrap::next),
                      InstanceMethod("replay", &PrefillWrap::replay), InstanceMethod("drop", &PrefillWrap::drop),
                      InstanceMethod("cancel", &PrefillWrap::cancel)});
}

PrefillWrap::PrefillWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PrefillWrap>(info) {
  guarded(info.Env(), [&] {
    ModelWrap& owner = ModelWrap::unwrap(info[0]);
    auto run = std::make_shared<Run>();
    run->model = owner.model();
    run->kv_dtype = read_dtype(info[2]);
    run->chunk_size = std::max<size_t>(1, read_size(info[3], "chunkSize"));
    if (!info[1].IsArray()) throw bad_argument("parts", "an array");
    const auto parts = info[1].As<Napi::Array>();
    const size_t page_slots = page_slots_of(*run->model, run->kv_dtype);
    for (uint32_t i = 0; i < parts.Length(); ++i) {
      const Napi::Value part = parts.Get(i);
      if (!part.IsObject()) throw bad_argument("parts", "an array of objects");
      run->add(read_part(part.As<Napi::Object>(), run->parts, run->model->config, page_slots));
    }
    if (run->num_sampled.empty()) throw bad_argument("layers", "at least one sampled layer");
    run->dropped = std::vector<std::atomic<bool>>(run->parts.size());
    run->cancel = cancel_ = owner.new_cancel_flag();
    run_ = std::move(run);
  });
}

Napi::Value PrefillWrap::page_slots(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const size_t slots = page_slots_of(*ModelWrap::unwrap(info[0]).model(), read_dtype(info[1]));
    return Napi::Number::New(info.Env(), static_cast<double>(slots));
  });
}

void PrefillWrap::drop(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const size_t part = read_size(info[0], "part");
    if (part >= run_->parts.size()) throw bad_argument("part", "a part of this pass");
    run_->dropped[part] = true;
  });
}

Napi::Value PrefillWrap::next(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Run> run = run_;
    if (*cancel_) throw Cancelled();
    if (run->busy.exchange(true)) throw bad_argument("next", "called after the previous call has settled");
    try {
      if (*cancel_) throw Cancelled();  // it may have failed meanwhile, and have no model any more
      const size_t num_layers = run->num_sampled.size();
      const bool done = next_layer_ == num_layers, last = next_layer_ + 1 == num_layers;
      const SampleBytes bytes = done ? SampleBytes() : run->bytes_of(next_layer_);
      uint8_t *k = read_output(info[0], bytes.k, "k"), *v = read_output(info[1], bytes.v, "v");
      const double layer = done ? -1 : static_cast<double>(next_layer_++);
      return executor(info.Env())
          .run(
              info.Env(), cancel_, {info.This(), info[0], info[1]},
              [run, k, v, done, last] {
                const Turn turn(*run);
                try {
                  if (!done) run->step(k, v);
                  if (last && !*run->cancel) run->end_pass();
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

Napi::Value PrefillWrap::replay(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Run> run = run_;
    if (*cancel_) throw Cancelled();
    if (run->busy.exchange(true)) throw bad_argument("replay", "called after the previous call has settled");
    try {
      if (*cancel_) throw Cancelled();  // it may have failed meanwhile, and have no model any more
      auto claimed = std::make_shared<Replay>(run->read_replay(info));
      double* out = read_values(info[5], claimed->rows.size() * kReplayValues, "out");
      return executor(info.Env())
          .run(
              info.Env(), cancel_, {info.This(), info[5]},
              [run, claimed, out] {
                const Turn turn(*run);
                poc::replay(*run->model, *run->ops, run->final_rows, *claimed, *run->cancel, out);
              },
              [](Napi::Env env) { return env.Undefined(); });
    } catch (...) {
      run->busy = false;
      throw;
    }
  });
}

void PrefillWrap::cancel(const Napi::CallbackInfo& info) {
  *cancel_ = true;
  give_back(executor(info.Env()), info.Env(), run_);
}

}  // namespace poc::binding
