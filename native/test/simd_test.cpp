// Whole passes give the same bits with every instruction set, number of threads and chunk size, and those
// bits are the ones of the scalar pass below.
#include "foreign_environment.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;
using reference::Array;

namespace {

constexpr size_t kAll = 1 << 20;

size_t num_tokens() { return quick() ? 35 : 77; }

// Section 1 of docs/NUMERICS.md, without a cache: every layer over all positions.
PassResult reference_pass(const RandomModel& m, const std::vector<uint32_t>& tokens) {
  const Config& c = m.config;
  const float eps = static_cast<float>(c.rms_norm_eps);
  const size_t count = tokens.size(), half = c.head_dim / 2, bytes = dtype_bytes(m.kv);
  const std::vector<float> frequencies = rope_frequencies(c);
  const Array embedding = m.values("model.embed_tokens.weight");
  PassResult result;
  result.row_bytes = c.kv_size() * bytes;
  Array x(count, c.hidden_size);
  for (size_t i = 0; i < count; ++i) std::copy(embedding.row(tokens[i]), embedding.row(tokens[i]) + x.cols, x.row(i));
  for (size_t layer = 0; layer < c.num_layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".", attn = p + "self_attn.", mlp = p + "mlp.";
    const auto vector = [&](bool has, const std::string& tensor) {
      return has ? m.values(tensor).data : std::vector<float>();
    };
    const auto pointer = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
    const auto q_bias = vector(c.qkv_bias, attn + "q_proj.bias"), k_bias = vector(c.qkv_bias, attn + "k_proj.bias"),
               v_bias = vector(c.qkv_bias, attn + "v_proj.bias"), q_norm = vector(c.qk_norm, attn + "q_norm.weight"),
               k_norm = vector(c.qk_norm, attn + "k_norm.weight");
    Array h = reference::rmsnorm(x, m.values(p + "input_layernorm.weight").data.data(), eps);
    Array q = reference::matmul(h, m.values(attn + "q_proj.weight"));
    Array k = reference::matmul(h, m.values(attn + "k_proj.weight"));
    Array v = reference::matmul(h, m.values(attn + "v_proj.weight"));
    for (size_t i = 0; i < count; ++i) {
      const auto position = static_cast<uint32_t>(i);
      const std::vector<float> table = reference::rope_table(frequencies, &position, 1);
      const float *cosines = table.data(), *sines = table.data() + half;
      reference::rotate_row(q.row(i), c.num_heads, c.head_dim, pointer(q_bias), pointer(q_norm), eps, cosines, sines);
      reference::rotate_row(k.row(i), c.num_kv_heads, c.head_dim, pointer(k_bias), pointer(k_norm), eps, cosines,
                            sines);
      for (size_t j = 0; j < v_bias.size(); ++j) v.at(i, j) += v_bias[j];
    }
    for (auto [from, to] : {std::pair{&k, &result.k}, std::pair{&v, &result.v}}) {
      to->emplace_back(count * result.row_bytes);
      for (size_t i = 0; i < from->data.size(); ++i) {
        float value[1];
        store_float(value, m.kv, 0, from->data[i]);
        memcpy(to->back().data() + i * bytes, value, bytes);
        from->data[i] = reference::stored(from->data[i], m.kv);
      }
    }
    const Array heads = reference::attention(q, k, v, c.head_dim, 0, c.sliding_window);
    const Array attended = reference::matmul(heads, m.values(attn + "o_proj.weight"));
    for (size_t i = 0; i < x.data.size(); ++i) x.data[i] += attended.data[i];
    h = reference::rmsnorm(x, m.values(p + "post_attention_layernorm.weight").data.data(), eps);
    Array gate = reference::matmul(h, m.values(mlp + "gate_proj.weight"));
    const Array up = reference::matmul(h, m.values(mlp + "up_proj.weight"));
    for (size_t i = 0; i < gate.data.size(); ++i) gate.data[i] = reference::swiglu(gate.data[i], up.data[i]);
    const Array down = reference::matmul(gate, m.values(mlp + "down_proj.weight"));
    for (size_t i = 0; i < x.data.size(); ++i) x.data[i] += down.data[i];
  }
  const Array last(1, c.hidden_size, std::vector<float>(x.row(count - 1), x.row(count - 1) + c.hidden_size));
  const Array head = m.values(c.tied_head ? "model.embed_tokens.weight" : "lm_head.weight");
  result.logits =
      reference::matmul(reference::rmsnorm(last, m.values("model.norm.weight").data.data(), eps), head).data;
  return result;
}

// A model whose activations vanish, explode or stay constant would hold nothing to anything.
void hold_alive(const RandomModel& m, const PassResult& result) {
  double sum = 0, squares = 0;
  for (const float logit : result.logits) sum += logit, squares += static_cast<double>(logit) * logit;
  const double n = static_cast<double>(result.logits.size()), variance = squares / n - sum / n * sum / n;
  CHECK(variance > 0.01 && variance < 1e6, m.name, " logits have variance ", variance);
  for (const auto* part : {&result.k, &result.v})
    for (const auto& layer : *part) {
      size_t large = 0, differing = 0;
      for (size_t i = 0; i < layer.size() / dtype_bytes(m.kv); ++i) {
        const float value = load_float(layer.data(), m.kv, i);
        CHECK(value - value == 0, m.name);
        large += value > 0.03f || value < -0.03f;
        differing += value != load_float(layer.data(), m.kv, i % m.config.kv_size());
      }
      CHECK(large * 2 > n && differing > 0, m.name);
    }
}

void hold_everywhere(const RandomModel& m, bool all_threads) {
  const std::vector<uint32_t> tokens = m.tokens(num_tokens());
  const PassResult expected = reference_pass(m, tokens);
  hold_alive(m, expected);
  for (const std::string& simd : cpu::available_simd())
    for (const size_t threads : {1, 2, 7}) {
      if (threads != 2 && !all_threads) continue;
      const auto model = m.load(threads, simd);
      for (const size_t chunk : {kAll, size_t{1}, size_t{7}, size_t{64}}) {
        if (quick() && chunk != 7 && threads != 2) continue;
        const PassResult got = whole_pass(model, m.kv, tokens, chunk);
        CHECK(got == expected, m.name, " ", simd, ", ", threads, " threads, chunks of ", chunk, ": ",
              difference(expected, got));
      }
    }
}

// A set that is never run would be held to nothing.
void the_sets_of_this_processor_are_there() {
  const std::vector<std::string> sets = cpu::available_simd();
  for (const std::string& simd : sets) printf("  %s\n", simd.c_str());
  CHECK(sets.back() == "plain");
#if defined(__aarch64__)
  CHECK(sets.front() == "neon", sets.front());
#endif
}

void small_models_are_bit_equal_everywhere() {
  for (const RandomModel& m : random_models()) hold_everywhere(m, true);
}

void a_model_split_over_threads_is_bit_equal_everywhere() {
  if (!quick()) hold_everywhere(wide_model(), true);
}

// The same activations in every kv dtype: what is stored differs, the order of operations does not.
void every_kv_dtype_is_bit_equal_everywhere() {
  RandomModel m = random_models()[0];
  for (const Dtype kv : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    m.kv = kv;
    hold_everywhere(m, false);
  }
}

// Half of the weights and sums are subnormal here.
RandomModel subnormal_model() {
  RandomModel m = random_model("subnormal", Dtype::f32, Dtype::f32, shape(40, 32, 32, 2, 2, 1, 16));
  for (auto& [name, stored] : m.tensors) {
    if (name.find("k_proj") == std::string::npos && name.find("v_proj") == std::string::npos) continue;
    for (size_t i = 0; i < stored.rows * stored.cols; ++i) {
      const float tiny = load_float(stored.bytes.data() + stored.offset, m.weights, i) * 0x1p-127f;
      memcpy(stored.bytes.data() + stored.offset + 4 * i, &tiny, 4);
    }
  }
  return m;
}

// The process's own rounding and flushing of subnormals, which the pool's threads inherit.
void a_foreign_float_environment_changes_nothing() {
  const RandomModel models[] = {subnormal_model(), random_models()[3]};
  for (const RandomModel& m : models) {
    const std::vector<uint32_t> tokens = m.tokens(20);
    const PassResult expected = reference_pass(m, tokens);
    for (const std::string& simd : cpu::available_simd()) {
      const PassResult got = [&] {
        const ForeignEnvironment foreign;
        const PassResult result = whole_pass(m.load(3, simd), m.kv, tokens, 7);
        CHECK(foreign.intact(), "given back to the caller");
        return result;
      }();
      CHECK(got == expected, m.name, " ", simd, ": ", difference(expected, got));
    }
  }
}

}  // namespace

int main() {
  RUN(the_sets_of_this_processor_are_there);
  RUN(small_models_are_bit_equal_everywhere);
  RUN(a_model_split_over_threads_is_bit_equal_everywhere);
  RUN(every_kv_dtype_is_bit_equal_everywhere);
  RUN(a_foreign_float_environment_changes_nothing);
  return result();
}
