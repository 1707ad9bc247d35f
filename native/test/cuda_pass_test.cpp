// The CUDA backend on the emulated device, through the module's own interface: K, V and logits of whole passes
// are the CPU backend's, under every schedule of copies, streams and threads.
#include "../core/leaves.h"
#include "../core/replay.h"
#include "../core/traced_ops.h"
#include "../cuda/module_backend.h"
#include "../emulator/emulator.h"
#include "packed_pass.h"

extern "C" const poc::cuda::Api* poc_cuda_api(uint32_t abi_version);

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};

std::unique_ptr<Backend> device_backend() { return cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 0); }

struct Schedule {
  const char* name;
  emulator::Schedule schedule;
  uint64_t seed;
};

std::vector<Schedule> schedules() {
  if (quick()) return {{"lazy", emulator::Schedule::kLazy, 0}};
  // ThreadSanitizer sees races in any order, and is slow.
  if (emulator::kThreadSanitizer)
    return {{"lazy", emulator::Schedule::kLazy, 0}, {"eager", emulator::Schedule::kEager, 0}};
  return {{"lazy", emulator::Schedule::kLazy, 0},
          {"eager", emulator::Schedule::kEager, 0},
          {"random 1", emulator::Schedule::kRandom, 1},
          {"random 2", emulator::Schedule::kRandom, 2}};
}

void set(const Schedule& schedule) {
  emulator::reset();
  emulator::options().schedule = schedule.schedule;
  emulator::options().seed = schedule.seed;
}

Config head_shape(size_t heads, size_t kv_heads, size_t head_dim) {
  Config c = shape(70, 24, 20, 2, heads, kv_heads, head_dim);
  c.qk_norm = true;
  return c;
}

void hold_pass(const RandomModel& m, const std::vector<uint32_t>& tokens, size_t chunk, const std::string& what) {
  const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 64);
  const PassResult got = whole_pass(m.load_on(device_backend()), m.kv, tokens, chunk);
  CHECK(got == expected, m.name, " ", what, ": ", difference(expected, got));
}

void random_models_have_the_cpu_s_bits() {
  for (const Schedule& schedule : schedules())
    for (const RandomModel& m : random_models()) {
      set(schedule);
      hold_pass(m, m.tokens(45), 32, schedule.name);
    }
}

void every_length_has_the_cpu_s_bits() {
  set(schedules()[0]);
  RandomModel m = random_model("lengths", Dtype::bf16, Dtype::bf16, head_shape(2, 1, 16));
  for (const size_t length : {1, 2, 63, 64, 65, 257})
    for (const size_t chunk : {size_t{1} << 20, size_t{7}, size_t{64}})
      if (chunk > 7 || length < 70) hold_pass(m, m.tokens(length), chunk, text(length, " tokens by ", chunk));
}

void groups_and_head_dims_have_the_cpu_s_bits() {
  set(schedules()[0]);
  struct Case {
    size_t heads, kv_heads, head_dim;
  };
  for (const Case& s : {Case{1, 1, 8}, Case{4, 1, 64}, Case{8, 1, 64}, Case{2, 2, 80}, Case{2, 1, 96}, Case{4, 1, 128},
                        Case{1, 1, 192}, Case{2, 1, 256}, Case{3, 3, 2}})
    for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
      const RandomModel m = random_model(text("heads ", s.heads, "/", s.kv_heads, " of ", s.head_dim), dtype, dtype,
                                         head_shape(s.heads, s.kv_heads, s.head_dim));
      hold_pass(m, m.tokens(67), 40, text("dtype ", static_cast<int>(dtype)));
      if (quick()) break;
    }
}

void decoding_has_the_cpu_s_bits() {
  for (const Schedule& schedule : schedules())
    for (const RandomModel& m : random_models()) {
      set(schedule);
      const std::vector<uint32_t> tokens = m.tokens(20);
      const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 64);
      Sequence sequence(m.load_on(device_backend()), m.kv, tokens.size() + 5, 8);
      std::vector<float> logits(m.config.vocab_size);
      for (size_t first = 0; first < tokens.size();) {
        const size_t count = first == 0 ? 13 : 1;
        const auto begin = tokens.begin() + static_cast<long>(first);
        sequence.append({begin, begin + static_cast<long>(count)}, {}, nullptr, nullptr, logits.data(), never);
        first += count;
      }
      const PassResult got = contents(sequence, m.kv, logits);
      CHECK(got == expected, m.name, " ", schedule.name, ": ", difference(expected, got));
    }
}

// Samples of several sequences in one pass, with layers queued ahead as verification does.
void packed_sequences_have_the_bits_they_have_alone() {
  Random random(40);
  for (const Schedule& schedule : schedules())
    for (const RandomModel& m : random_models()) {
      set(schedule);
      const auto sequences = branched(m, m.load(2, "auto"), random,
                                      {{kNoParent, 0, 5}, {kNoParent, 0, 64}, {kNoParent, 0, 1}, {kNoParent, 0, 70}});
      hold_packed(*m.load_on(device_backend()), m.kv, sequences, 50, text(m.name, " ", schedule.name));
    }
}

void shared_prefixes_have_the_bits_they_have_alone() {
  Random random(41);
  size_t number = 0;
  const auto models = random_models();
  for (const Schedule& schedule : schedules()) {
    const auto cases = trees(64, true);
    for (size_t tree = 0; tree < cases.size(); ++tree) {
      set(schedule);
      const RandomModel& m = models[number % models.size()];
      const auto sequences = branched(m, m.load(2, "auto"), random, cases[tree]);
      const auto device = m.load_on(device_backend());
      const size_t chunks[] = {64, 7, 1 << 20}, chunk = quick() ? 64 : chunks[number++ % 3];
      const std::string what = text(m.name, " ", schedule.name, " tree ", tree, " by ", chunk);
      hold_packed(*device, m.kv, sequences, chunk, what);
      hold_packed(*device, m.kv, sequences, chunk, what + " drop", {{0, 0}, {1, sequences.size() - 1}});
    }
  }
}

// Leaf digests are hashed while the device goes on, and logits are looked at while it computes the next ones.
void leaves_and_replay_are_the_cpu_s() {
  for (const Schedule& schedule : schedules())
    for (const RandomModel& m : random_models()) {
      const std::vector<uint32_t> tokens = m.tokens(40);
      const auto last = static_cast<uint32_t>(m.config.num_layers);
      const std::vector<uint32_t> positions{0, 1, 17, 38}, claimed{3, 4, 5, 6}, rows{3, 0, 1, 2};
      std::vector<std::vector<uint8_t>> leaves;
      std::vector<std::vector<double>> values;
      for (const bool device : {false, true}) {
        set(schedule);
        const auto model = device ? m.load_on(device_backend()) : m.load(2, "auto");
        leaves.emplace_back(tokens.size() * (last + 1) * kDigestBytes);
        Sequence(model, m.kv, 40, 16).append(tokens, {}, nullptr, nullptr, nullptr, never, leaves.back().data());
        const auto ops = model->backend->ops(never);
        KvCache cache(*model, m.kv, 40, 1);
        Prefill pass(*model, *ops, cache, {{tokens, {{last}, {positions}}}}, 16, never);
        while (pass.next()) pass.take_samples();
        values.emplace_back(rows.size() * kReplayValues);
        const Replay request{rows, claimed, positions, Sampling{0.9, 0, 1, {1, 2}}, true};
        replay(*model, *ops, pass.final_rows(), request, never, values.back().data());
      }
      CHECK(leaves[0] == leaves[1], m.name, " ", schedule.name);
      CHECK(!memcmp(values[0].data(), values[1].data(), values[0].size() * sizeof(double)), m.name, schedule.name);
    }
}

void streamed_layers_have_the_same_bits() {
  for (const Schedule& schedule : schedules()) {
    set(schedule);
    RandomModel m = random_model("streamed", Dtype::bf16, Dtype::f16, shape(70, 32, 48, 6, 4, 2, 8));
    const std::vector<uint32_t> tokens = m.tokens(30);
    const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 64);
    size_t needed = 0;
    try {
      m.load_on(device_backend(), 1);
    } catch (const Error& error) {
      needed = std::stoull(error.expected.substr(error.expected.rfind(' ')));
    }
    const auto model = m.load_on(device_backend(), needed);
    CHECK(model->weights.streamed());
    for (int pass = 0; pass < 2; ++pass) {
      const PassResult got = whole_pass(model, m.kv, tokens, 16);
      CHECK(got == expected, schedule.name, ": ", difference(expected, got));
    }
  }
}

// A run that is stopped ends soon, whatever is queued, and leaves the model usable.
void a_cancelled_run_leaves_the_model_usable() {
  for (const Schedule& schedule : schedules()) {
    set(schedule);
    const RandomModel m = random_models()[0];
    const std::vector<uint32_t> tokens = m.tokens(40);
    const auto model = m.load_on(device_backend());
    const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 64);
    for (const int after : {0, 1, 2}) {
      std::atomic<bool> cancelled{false};
      KvCache cache(*model, m.kv, 64, 1);
      const std::string error = error_of([&] {
        const auto ops = model->backend->ops(cancelled);
        Prefill pass(*model, *ops, cache, {{tokens, {{0, 3}, {{39}, {39}}}, 0, 0, Wanted::samples}}, 16, cancelled);
        std::vector<LayerSamples> queued;
        for (int layer = 0; layer < after && pass.next(); ++layer) queued.push_back(pass.take_samples());
        cancelled = true;
        for (const LayerSamples& samples : queued)
          if (samples.rows) samples.rows->wait();
        pass.next();
      });
      CHECK(error == "ABORTED", schedule.name, " ", after, ": ", error);
    }
    const PassResult got = whole_pass(model, m.kv, tokens, 16);
    CHECK(got == expected, schedule.name, ": ", difference(expected, got));
  }
}

void errors_are_typed_and_nothing_leaks() {
  set(schedules()[0]);
  const size_t device_bytes = emulator::live_device_bytes(), pinned_bytes = emulator::live_pinned_bytes();
  const RandomModel m = random_models()[0];
  {
    const auto model = m.load_on(device_backend());
    emulator::options().device_memory = emulator::live_device_bytes() + 100000;
    CHECK(error_of([&] { KvCache(*model, m.kv, 1 << 20, 3); }) == "OUT_OF_MEMORY device memory");
    emulator::options().device_memory = size_t{1} << 40;
    const std::vector<uint32_t> tokens = m.tokens(9);
    CHECK(whole_pass(model, m.kv, tokens, 16) == whole_pass(m.load(1, "auto"), m.kv, tokens, 16));
    for (int after = 0; after < 40; after += 3) {  // whichever launch fails, it is this call that says so
      emulator::options().fail_launch_after = after;
      CHECK(error_of([&] { whole_pass(model, m.kv, tokens, 4); }) == "BACKEND_FAILED cuda", after);
      emulator::options().fail_launch_after = -1;
      emulator::clear_failure();
      CHECK(whole_pass(model, m.kv, tokens, 4) == whole_pass(m.load(1, "auto"), m.kv, tokens, 16), after);
    }
  }
  for (int after = 0; after < 60; after += 2) {
    emulator::options().fail_malloc_after = after;
    const std::string error = error_of([&] { whole_pass(m.load_on(device_backend()), m.kv, m.tokens(9), 16); });
    emulator::options().fail_malloc_after = -1;
    CHECK(error.empty() || error.find("OUT_OF_MEMORY") == 0, after, ": ", error);
  }
  CHECK(emulator::live_device_bytes() == device_bytes, emulator::live_device_bytes() - device_bytes);
  CHECK(emulator::live_pinned_bytes() == pinned_bytes, emulator::live_pinned_bytes() - pinned_bytes);
  CHECK(error_of([&] {
          trace(*m.load_on(device_backend()), m.kv, {1, 2}, 0, 1, 16, never);
        }) == "BACKEND_UNAVAILABLE backend");
  CHECK(error_of([] { cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 7); }) == "BACKEND_FAILED cuda");
  CHECK(poc_cuda_api(cuda::kAbiVersion + 1) == nullptr);
}

void weights_that_are_not_finite_are_refused_by_name() {
  set(schedules()[0]);
  for (const char* tensor : {"model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    RandomModel m = random_models()[0];
    auto& stored = m.tensors[tensor];
    const uint16_t infinity = 0xff80;
    memcpy(stored.bytes.data() + stored.offset + (stored.rows * stored.cols - 3) * 2, &infinity, 2);
    CHECK(error_of([&] { m.load_on(device_backend()); }) == std::string("MODEL_NON_FINITE ") + tensor, tensor);
  }
}

}  // namespace

int main() {
  RUN(random_models_have_the_cpu_s_bits);
  RUN(every_length_has_the_cpu_s_bits);
  RUN(groups_and_head_dims_have_the_cpu_s_bits);
  RUN(decoding_has_the_cpu_s_bits);
  RUN(packed_sequences_have_the_bits_they_have_alone);
  RUN(shared_prefixes_have_the_bits_they_have_alone);
  RUN(leaves_and_replay_are_the_cpu_s);
  RUN(streamed_layers_have_the_same_bits);
  RUN(a_cancelled_run_leaves_the_model_usable);
  RUN(errors_are_typed_and_nothing_leaks);
  RUN(weights_that_are_not_finite_are_refused_by_name);
  return result();
}
