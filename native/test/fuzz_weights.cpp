// Weights whose values, types and shapes are somebody else's: loading gives a model or an Error, whatever is missing,
// odd or not finite; a pass over such a model ends; and choosing from its logits gives a token of the vocabulary.
#include <fuzzer/FuzzedDataProvider.h>

#include "../core/choose.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};

// Small ones, so that many inputs are tried: every op still has rows, columns and a rest.
std::vector<RandomModel> small_models() {
  Config llama = shape(9, 6, 5, 2, 2, 1, 4), qwen2 = llama, qwen3 = llama, mistral = shape(33, 18, 17, 3, 4, 2, 2);
  qwen2.qkv_bias = qwen2.tied_head = true;
  qwen3.qk_norm = true;
  mistral.sliding_window = 2;
  llama.rope_scaling = {8, 1, 4, 64};
  return {random_model("llama", Dtype::f32, Dtype::bf16, llama), random_model("qwen2", Dtype::bf16, Dtype::f16, qwen2),
          random_model("qwen3", Dtype::f16, Dtype::f32, qwen3),
          random_model("mistral", Dtype::bf16, Dtype::bf16, mistral)};
}

const std::vector<RandomModel>& examples() {
  static const std::vector<RandomModel> models = small_models();
  return models;
}

// Overwrites stored values: the block stays as large as its shape says, so that reading past it is found.
void damage(RandomModel::Stored& stored, FuzzedDataProvider& in) {
  const std::string bytes = in.ConsumeRandomLengthString(16);
  const size_t at = in.ConsumeIntegralInRange<size_t>(0, stored.bytes.size() - 1);
  memcpy(stored.bytes.data() + at, bytes.data(), std::min(bytes.size(), stored.bytes.size() - at));
}

void change(RandomModel& m, FuzzedDataProvider& in) {
  auto it = m.tensors.begin();
  std::advance(it, in.ConsumeIntegralInRange<size_t>(0, m.tensors.size() - 1));
  RandomModel::Stored& stored = it->second;
  switch (in.ConsumeIntegralInRange(0, 15)) {
    case 0:
      m.tensors.erase(it);
      return;
    case 1:
      stored.rows += in.ConsumeIntegralInRange<size_t>(0, 2);
      return;
    case 2:
      std::swap(stored.rows, stored.cols);
      return;
    default:
      damage(stored, in);
  }
}

void compute(const std::shared_ptr<const Model>& model, Dtype kv, FuzzedDataProvider& in) {
  std::vector<uint32_t> tokens(in.ConsumeIntegralInRange<size_t>(1, 4));
  const size_t vocabulary = model->config.vocab_size;
  for (uint32_t& token : tokens) token = in.ConsumeIntegralInRange<uint32_t>(0, static_cast<uint32_t>(vocabulary) - 1);
  std::vector<float> logits = whole_pass(model, kv, tokens, 2).logits;
  for (int i = 0; i < 3; ++i)
    logits[in.ConsumeIntegralInRange<size_t>(0, vocabulary - 1)] = in.ConsumeFloatingPoint<float>();
  Sampling sampling;
  sampling.temperature = in.ConsumeBool() ? 0 : in.ConsumeFloatingPointInRange<double>(0, 1e300);
  sampling.top_k = in.ConsumeIntegralInRange<uint32_t>(0, 200);
  sampling.top_p = in.ConsumeFloatingPointInRange<double>(1e-300, 1);
  if (choose_token(logits.data(), vocabulary, sampling, 0) >= vocabulary) abort();
}

void fuzz(FuzzedDataProvider& in) {
  RandomModel m = examples()[in.ConsumeIntegralInRange<size_t>(0, examples().size() - 1)];
  const size_t changes = in.ConsumeIntegralInRange<size_t>(0, 6);
  for (size_t i = 0; i < changes && !m.tensors.empty(); ++i) change(m, in);
  const size_t budget = in.ConsumeBool() ? in.ConsumeIntegralInRange<size_t>(0, size_t{1} << 20) : kNoBudget;
  static const auto backend = cpu::make_backend(1, "auto");  // making one takes longer than the rest
  std::atomic<size_t> loaded{0};
  load_weights(*backend, m.config, m.source(), never, loaded, budget);
  if (in.ConsumeBool()) compute(m.load_on(cpu::make_backend(1, "auto"), budget), m.kv, in);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  try {
    fuzz(in);
  } catch (const Error&) {  // anything else ends the process
  }
  return 0;
}
