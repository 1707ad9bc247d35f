// Layers that are not in memory: brought in one ahead of the pass, each once, and none that it does not reach.
#include "../core/layers.h"

#include <thread>

#include "../core/prefill.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};
constexpr size_t kLayers = 8;

// Layers of another model, and a record of who asked for them.
class Recorded : public LayerSource {
 public:
  explicit Recorded(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  LayerWeights load(size_t layer, const std::atomic<bool>& cancelled) override {
    while (layer >= gate_) {
      if (cancelled) throw Cancelled();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (layer == failing_) throw Error("MODEL_MALFORMED", "broken", "layer");
    CHECK(layer == num_loaded_, "layers come in order");
    LayerWeights weights = model_->weights.layers[layer];
    weights.input_norm.buffer = std::shared_ptr<Buffer>(weights.input_norm.buffer.get(), [this](Buffer*) { --alive_; });
    most_alive_ = std::max<size_t>(most_alive_, ++alive_);
    ++num_loaded_;
    return weights;
  }
  bool in_memory(size_t num_layers) const override { return num_layers <= in_memory_; }

  std::shared_ptr<const Model> model_;
  std::atomic<size_t> gate_{kLayers}, failing_{kLayers};  // layers that wait; the one that throws
  std::atomic<size_t> num_loaded_{0}, alive_{0}, most_alive_{0}, in_memory_{0};
};

RandomModel deep_model() { return random_model("deep", Dtype::bf16, Dtype::bf16, shape(64, 32, 64, kLayers, 4, 2, 8)); }

struct Streamed {
  RandomModel m = deep_model();
  std::shared_ptr<Recorded> source = std::make_shared<Recorded>(m.load(2, "auto"));
  std::shared_ptr<const Model> model = [this] {
    Weights weights = source->model_->weights;
    weights.layers.clear();
    weights.source = source;
    return make_model(cpu::make_backend(2, "auto"), m.config, std::move(weights));
  }();
  std::vector<uint32_t> tokens = m.tokens(12);
  std::unique_ptr<Ops> ops = model->backend->ops(never);
  KvCache cache{*model, m.kv, 12, 1};

  Prefill pass(const std::atomic<bool>& cancelled = never) {
    return Prefill(*model, *ops, cache, {{tokens, everything(kLayers, 12), 0, 0, Wanted::samples}}, 4, cancelled);
  }
  // What was loaded when nothing moves any more.
  size_t loaded_at_rest() const {
    size_t before = kLayers + 1;
    while (before != source->num_loaded_) {
      before = source->num_loaded_;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return before;
  }
};

void the_first_layer_computes_while_deeper_ones_cannot_be_read_yet() {
  Streamed s;
  s.source->gate_ = 1;
  Prefill pass = s.pass();
  CHECK(pass.next());
  CHECK(pass.take_samples().num_rows == 12 && s.source->num_loaded_ == 1);
  s.source->gate_ = kLayers;
  while (pass.next()) continue;
  CHECK(s.source->num_loaded_ == kLayers);
}

void a_pass_that_stops_has_read_one_layer_more() {
  for (size_t stop = 1; stop <= kLayers; ++stop) {
    Streamed s;
    {
      Prefill pass = s.pass();
      for (size_t layer = 0; layer < stop; ++layer) CHECK(pass.next());
      CHECK(s.loaded_at_rest() == std::min(stop + 1, kLayers), stop, ": ", s.source->num_loaded_.load());
    }
    CHECK(s.source->num_loaded_ == std::min(stop + 1, kLayers) && s.source->alive_ == 0, stop);
    CHECK(s.source->most_alive_ <= 2, s.source->most_alive_.load());
  }
}

void what_loading_meets_is_what_the_pass_throws() {
  Streamed s;
  s.source->failing_ = 2;
  Prefill pass = s.pass();
  CHECK(pass.next() && pass.next());
  CHECK(error_of([&] { pass.next(); }) == "MODEL_MALFORMED layer");
}

void a_pass_that_waits_for_a_layer_can_be_cancelled() {
  Streamed s;
  s.source->gate_ = 1;
  std::atomic<bool> cancelled{false};
  Prefill pass = s.pass(cancelled);
  CHECK(pass.next());
  std::thread other([&] { cancelled = true; });
  CHECK(error_of([&] { pass.next(); }) == "ABORTED");
  other.join();
}

void layers_in_memory_are_not_asked_for() {
  Streamed s;
  Weights weights = s.source->model_->weights;
  weights.source = s.source;
  s.source->in_memory_ = kLayers;
  const auto model = make_model(cpu::make_backend(2, "auto"), s.m.config, std::move(weights));
  const PassResult got = whole_pass(model, s.m.kv, s.tokens, 4);
  CHECK(got == whole_pass(s.source->model_, s.m.kv, s.tokens, 4) && s.source->num_loaded_ == 0);
}

}  // namespace

int main() {
  RUN(the_first_layer_computes_while_deeper_ones_cannot_be_read_yet);
  RUN(a_pass_that_stops_has_read_one_layer_more);
  RUN(what_loading_meets_is_what_the_pass_throws);
  RUN(a_pass_that_waits_for_a_layer_can_be_cancelled);
  RUN(layers_in_memory_are_not_asked_for);
  return result();
}
