#include "sequence.h"

#include "../core/choose.h"
#include "../core/leaves.h"
#include "addon.h"
#include "args.h"
#include "model.h"

namespace poc::binding {

struct SequenceWrap::Run {
  std::shared_ptr<const Model> model;  // null when cancelled: the object may live on, the weights must not
  Dtype kv_dtype;
  size_t capacity, chunk_size;
  CancelFlag cancel;
  std::atomic<bool> busy{false};
  std::unique_ptr<poc::Sequence> sequence;  // memory is taken at the first append, off the JS thread
  size_t length = 0;                        // JS thread
  std::vector<float> logits;

  bool begun() const { return sequence != nullptr; }
  void release() {
    sequence.reset();
    model.reset();
  }
  // Of what a call has requested.
  SampleBytes bytes_of(const SampleRequest& request) const {
    SampleBytes all;
    for (size_t i = 0; i < request.layers.size(); ++i) {
      const auto some = sample_bytes(model->config, kv_dtype, request.layers[i], request.positions[i].size());
      all.k += some.k;
      all.v += some.v;
    }
    return all;
  }
};

Napi::Function SequenceWrap::define(Napi::Env env) {
  return DefineClass(env, "Sequence",
                     {InstanceMethod("append", &SequenceWrap::append),
                      InstanceMethod("extract", &SequenceWrap::extract),
                      InstanceMethod("cancel", &SequenceWrap::cancel)});
}

SequenceWrap::SequenceWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SequenceWrap>(info) {
  guarded(info.Env(), [&] {
    ModelWrap& owner = ModelWrap::unwrap(info[0]);
    auto run = std::make_shared<Run>();
    run->model = owner.model();
    run->kv_dtype = read_dtype(info[1]);
    run->capacity = read_size(info[2], "capacity");
    run->chunk_size = std::max<size_t>(1, read_size(info[3], "chunkSize"));
    if (run->capacity == 0 || run->capacity > (size_t{1} << 24)) throw bad_argument("capacity", "1 to 2^24 positions");
    run->cancel = cancel_ = owner.new_cancel_flag();
    run_ = std::move(run);
  });
}

Napi::Value SequenceWrap::append(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Run> run = run_;
    if (*cancel_) throw Cancelled();
    if (run->busy.exchange(true)) throw bad_argument("append", "called after the previous call has settled");
    try {
      const Config& c = run->model->config;
      auto tokens = read_tokens(info[0], c);
      if (tokens.empty() || tokens.size() > run->capacity - run->length)
        throw wrong_value("CONTEXT_OVERFLOW", "tokens",
                          "1 to " + std::to_string(run->capacity - run->length) + " tokens",
                          std::to_string(tokens.size()));
      const size_t end = run->length + tokens.size();
      auto request = read_samples(info[1], info[2], info[3], c.num_layers, run->length, end - 1);
      const SampleBytes bytes = run->bytes_of(request);
      uint8_t *k = read_output(info[4], bytes.k, "k"), *v = read_output(info[5], bytes.v, "v");
      const bool choose = info[6].IsObject();
      const Sampling sampling = choose ? read_sampling(info[6].As<Napi::Object>()) : Sampling();
      uint8_t* logits = info[7].IsTypedArray() ? read_output(info[7], c.vocab_size * sizeof(float), "logits") : nullptr;
      const size_t leaf_bytes = tokens.size() * (c.num_layers + 1) * kDigestBytes;
      uint8_t* leaves = info[8].IsTypedArray() ? read_output(info[8], leaf_bytes, "leaves") : nullptr;
      auto chosen = std::make_shared<double>(-1);
      return executor(info.Env())
          .run(
              info.Env(), cancel_, {info.This(), info[4], info[5], info[7], info[8]},
              [run, tokens = std::move(tokens), request = std::move(request), k, v, choose, sampling, logits, leaves,
               chosen, end] {
                const Turn turn(*run);
                if (*run->cancel) throw Cancelled();
                if (!run->sequence)
                  run->sequence =
                      std::make_unique<poc::Sequence>(run->model, run->kv_dtype, run->capacity, run->chunk_size);
                const bool wanted = choose || logits;
                run->logits.resize(wanted ? run->model->config.vocab_size : 0);
                run->sequence->append(tokens, request, k, v, wanted ? run->logits.data() : nullptr, *run->cancel,
                                      leaves);
                if (choose)
                  *chosen = choose_token(run->logits.data(), run->logits.size(), sampling, static_cast<uint32_t>(end));
                if (logits) memcpy(logits, run->logits.data(), run->logits.size() * sizeof(float));
              },
              [run, chosen, end](Napi::Env env) {
                run->length = end;
                return Napi::Number::New(env, *chosen);
              });
    } catch (...) {
      run->busy = false;
      throw;
    }
  });
}

void SequenceWrap::extract(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    Run& run = *run_;
    const auto layers = read_uint32s(info[0], "layers");
    const size_t position = read_size(info[1], "position");
    if (run.busy || !run.sequence || position >= run.sequence->length())
      throw bad_argument("position", "one whose K and V are in the cache");
    SampleBytes bytes;
    for (size_t i = 0; i < layers.size(); ++i) {
      const bool final = i + 1 == layers.size() && run.sequence->has_final(position);
      if (layers[i] >= run.model->config.num_layers + (final ? 1 : 0))
        throw bad_argument("layers", "layers of the model, or a virtual one that is kept");
      const auto some = sample_bytes(run.model->config, run.kv_dtype, layers[i], 1);
      bytes = {bytes.k + some.k, bytes.v + some.v};
    }
    uint8_t *k = read_output(info[2], bytes.k, "k"), *v = read_output(info[3], bytes.v, "v");
    run.sequence->extract(layers, static_cast<uint32_t>(position), k, v);
  });
}

// Nothing can be appended any more.
void SequenceWrap::cancel(const Napi::CallbackInfo& info) {
  *cancel_ = true;
  give_back(executor(info.Env()), info.Env(), run_);
}

}  // namespace poc::binding
