// Tokens a second of a real shape, through the whole library: prompts with weights in device memory and streamed
// from the host, and decoding.
#include <algorithm>
#include <chrono>

#include "../../native/core/prefill.h"
#include "../../native/cuda/module_backend.h"
#include "../../native/test/random_model.h"
#include "bench.h"

extern "C" const poc::cuda::Api* poc_cuda_api(uint32_t abi_version);

namespace poc::bench {
namespace {

constexpr size_t kPrompt = 2048, kLayers = 4;
const std::atomic<bool> never{false};

double seconds_of(const std::function<void()>& work) {
  const auto from = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

test::RandomModel one_billion_shape() {
  Config c = test::shape(4096, 2048, 8192, kLayers, 32, 8, 64);
  c.rope_theta = 500000, c.rope_scaling = {32, 1, 4, 8192}, c.tied_head = true;
  return test::random_model("Llama 3.2 1B", Dtype::bf16, Dtype::bf16, c);
}

// The least budget that a model can be streamed with.
size_t least_budget(const test::RandomModel& random) {
  try {
    random.load_on(cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 0), 1);
  } catch (const Error& error) {
    return std::stoull(error.expected.substr(error.expected.rfind(' ')));
  }
  return kNoBudget;
}

// Median seconds of a prompt; `logits`: of its last token.
double prefill(const std::shared_ptr<const Model>& model, const std::vector<uint32_t>& tokens, int repeats,
               std::vector<float>* logits) {
  std::vector<double> times;
  for (int i = -1; i < repeats; ++i) {
    Sequence sequence(model, Dtype::bf16, tokens.size(), 512);
    const double time = seconds_of([&] { sequence.append(tokens, {}, nullptr, nullptr, logits->data(), never); });
    if (i >= 0) times.push_back(time);
  }
  return median(times);
}

double decode(const std::shared_ptr<const Model>& model, const std::vector<uint32_t>& tokens) {
  constexpr size_t kMore = 64;
  Sequence sequence(model, Dtype::bf16, tokens.size() + kMore, 512);
  std::vector<float> logits(model->config.vocab_size);
  sequence.append(tokens, {}, nullptr, nullptr, logits.data(), never);
  std::vector<double> times;
  for (size_t i = 0; i < kMore; ++i)
    times.push_back(seconds_of(
        [&] { sequence.append({static_cast<uint32_t>(17 * i + 1)}, {}, nullptr, nullptr, logits.data(), never); }));
  return median(times);
}

}  // namespace

void bench_model(Bench& bench) {
  const test::RandomModel random = one_billion_shape();
  const std::vector<uint32_t> tokens = random.tokens(kPrompt), few(tokens.begin(), tokens.begin() + 130);
  const auto model = random.load_on(cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 0));
  const auto on_cpu = random.load(std::thread::hardware_concurrency(), "auto");
  std::vector<float> logits(random.config.vocab_size), expected = logits;
  prefill(model, few, 1, &logits);
  Sequence(on_cpu, Dtype::bf16, few.size(), 64).append(few, {}, nullptr, nullptr, expected.data(), never);
  bench.expect(memcmp(logits.data(), expected.data(), logits.size() * 4) == 0, "logits of a prompt");

  const double count = kPrompt, resident = prefill(model, tokens, 11, &expected);
  const std::string shape = text("1B shape, %zu layers, bf16, %zu tokens", kLayers, kPrompt);
  bench.report("prefill", count / resident, "tokens/s", 0, 0, shape + text(", %.2f ms", resident * 1e3));
  const double token = decode(model, tokens);
  bench.report("decode", 1 / token, "tokens/s", 0, 0, shape + text(" before it, %.3f ms", token * 1e3));

  const size_t budget = least_budget(random);
  const auto streamed_model = random.load_on(cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 0), budget);
  bench.expect(streamed_model->weights.streamed(), "weights are streamed");
  const double streamed = prefill(streamed_model, tokens, 11, &logits);
  bench.expect(memcmp(logits.data(), expected.data(), logits.size() * 4) == 0, "logits with streamed weights");
  bench.report("prefill, weights streamed", count / streamed, "tokens/s", 0, 0,
               shape + text(", %.2f ms, budget %.0f MB", streamed * 1e3, static_cast<double>(budget) / 1e6));
}

}  // namespace poc::bench
