// Are K, V and logits of whole passes on the device those of the CPU, bit for bit?
//   gpu_check MODULE [MANIFEST ...]             (libpoc_cuda.so; manifests: see manifest.cmake)
//   gpu_check_emulated [MANIFEST ...]           (the same on the emulated device)
#include "../../native/core/prefill.h"
#include "../../native/cuda/module_backend.h"
#include "../../native/cuda/open.h"
#include "subject.h"

using namespace poc;
using namespace poc::test;

#if defined(POC_CHECK_EMULATED)
extern "C" const poc::cuda::Api* poc_cuda_api(uint32_t abi_version);
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

namespace {

const std::atomic<bool> never{false};
const cuda::Api* api = nullptr;

std::unique_ptr<Backend> device_backend() { return cuda::make_backend(*api, 0); }
std::unique_ptr<Backend> cpu_backend() { return cpu::make_backend(std::thread::hardware_concurrency(), "auto"); }

// A model on both sides.
struct Pair {
  const Subject& subject;
  std::shared_ptr<const Model> cpu, device;
  explicit Pair(const Subject& s) : subject(s), cpu(s.load(cpu_backend())), device(s.load(device_backend())) {}
};

void hold_same(const PassResult& expected, const PassResult& got, const std::string& what) {
  CHECK(got == expected, what, ": ", difference(expected, got));
}

void hold_pass(const Pair& pair, size_t length, size_t chunk) {
  const Subject& s = pair.subject;
  const std::vector<uint32_t> tokens = s.tokens(length);
  const PassResult expected = whole_pass(pair.cpu, s.kv, tokens, 64);
  hold_same(expected, whole_pass(pair.device, s.kv, tokens, chunk), text(s.name, " ", length, " tokens by ", chunk));
}

void hold_decoding(const Pair& pair, size_t prompt, size_t more) {
  const Subject& s = pair.subject;
  const std::vector<uint32_t> tokens = s.tokens(prompt + more);
  Sequence sequence(pair.device, s.kv, tokens.size() + 5, 16);
  std::vector<float> logits(s.config.vocab_size);
  for (size_t first = 0; first < tokens.size();) {
    const size_t count = first == 0 ? prompt : 1;
    const auto begin = tokens.begin() + static_cast<long>(first);
    sequence.append({begin, begin + static_cast<long>(count)}, {}, nullptr, nullptr, logits.data(), never);
    first += count;
  }
  hold_same(whole_pass(pair.cpu, s.kv, tokens, 64), contents(sequence, s.kv, logits), s.name + " decoding");
}

// Half and end of the sequence in the first layer, the end in the last one.
SampleRequest some_samples(size_t length, uint32_t last_layer) {
  const auto last = static_cast<uint32_t>(length - 1);
  if (last == 0) return {{last_layer}, {{0}}};
  SampleRequest samples{{0, last_layer}, {{last / 2, last}, {last}}};
  if (last_layer == 0) samples = {{0}, {{last / 2, last}}};
  return samples;
}

void hold_rows(const LayerSamples& got, const std::vector<Part>& parts, const std::vector<PassResult>& full,
               const std::string& name) {
  const char* rows = static_cast<const char*>(got.rows->wait());
  const size_t row = full[0].row_bytes;
  size_t at = 0;
  for (size_t p = 0; p < parts.size(); ++p)
    for (size_t i = 0; i < parts[p].samples.layers.size(); ++i) {
      if (parts[p].samples.layers[i] != got.layer) continue;
      for (const uint32_t position : parts[p].samples.positions[i]) {
        const uint8_t *k = full[p].k[got.layer].data(), *v = full[p].v[got.layer].data();
        CHECK(!memcmp(rows + at * row, k + position * row, row), name, " packed k ", p);
        CHECK(!memcmp(rows + (got.num_rows + at) * row, v + position * row, row), name, " packed v ", p);
        ++at;
      }
    }
  CHECK(at == got.num_rows, name);
}

// Samples of several sequences in one pass, with layers queued ahead as verification does.
void hold_packed(const Pair& pair, const std::vector<size_t>& lengths) {
  const Subject& s = pair.subject;
  std::vector<Part> parts;
  std::vector<PassResult> full;
  size_t slots = 0;
  for (const size_t length : lengths) {
    std::vector<uint32_t> tokens = s.tokens(length);
    tokens[0] = static_cast<uint32_t>(parts.size());
    full.push_back(whole_pass(pair.cpu, s.kv, tokens, 64));
    const SampleRequest samples = some_samples(length, static_cast<uint32_t>(s.config.num_layers - 1));
    parts.push_back({tokens, samples, 0, slots, Wanted::samples});
    slots += (length + 63) / 64 * 64;
  }
  KvCache cache(*pair.device, s.kv, slots, 1);
  const auto ops = pair.device->backend->ops(never);
  Prefill pass(*pair.device, *ops, cache, parts, 50, never);
  std::vector<LayerSamples> all;
  while (pass.next()) all.push_back(pass.take_samples());
  for (const LayerSamples& got : all)
    if (got.rows) hold_rows(got, parts, full, s.name);
}

// Two passes with the least memory; two layers are kept at a time, so that fewer than three are never streamed.
void hold_streamed(const Pair& pair, size_t length) {
  const Subject& s = pair.subject;
  if (s.config.num_layers < 3) return;
  size_t needed = 0;
  try {
    s.load(device_backend(), 1);
  } catch (const Error& error) {
    needed = std::stoull(error.expected.substr(error.expected.rfind(' ')));
  }
  const auto model = s.load(device_backend(), needed);
  CHECK(model->weights.streamed(), s.name);
  const std::vector<uint32_t> tokens = s.tokens(length);
  const PassResult expected = whole_pass(pair.cpu, s.kv, tokens, 64);
  for (int pass = 0; pass < 2; ++pass) hold_same(expected, whole_pass(model, s.kv, tokens, 16), s.name + " streamed");
}

void hold_all(const Subject& subject) {
  const Pair pair(subject);
  hold_pass(pair, 45, 32);
  hold_decoding(pair, 13, 7);
  hold_packed(pair, quick() ? std::vector<size_t>{5, 70} : std::vector<size_t>{5, 64, 1, 70});
  hold_streamed(pair, 30);
}

void random_models_have_the_cpu_s_bits() {
  for (RandomModel& model : random_models()) {
    hold_all(subject_of(std::move(model)));
    if (quick() && num_checks() > 20) break;
  }
}

void lengths_and_head_dims_have_the_cpu_s_bits() {
  for (const size_t dim : {8, 64, 80, 96, 128, 192, 256}) {
    Config c = shape(70, 24, 20, 2, 4, 2, dim);
    c.qk_norm = true;
    for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
      const Subject subject = subject_of(random_model(text("head dim ", dim), dtype, dtype, c));
      const Pair pair(subject);
      hold_pass(pair, 67, 40);
      if (!kEmulated)
        for (const size_t length : {1, 2, 63, 64, 65, 257, 700}) hold_pass(pair, length, size_t{1} << 20);
    }
  }
}

// Real widths, cut in depth and vocabulary. Too much work for the emulated device.
void real_shapes_have_the_cpu_s_bits() {
  Config llama = shape(4096, 2048, 8192, 2, 32, 8, 64);
  llama.rope_theta = 500000, llama.rope_scaling = {32, 1, 4, 8192}, llama.tied_head = true;
  const Config tiny = shape(4096, 2048, 5632, 2, 32, 4, 64);
  for (const auto& [name, config] : {std::pair<const char*, Config>{"Llama 3.2 1B", llama}, {"TinyLlama", tiny}}) {
    const Subject subject = subject_of(random_model(name, Dtype::bf16, Dtype::bf16, config));
    const Pair pair(subject);
    hold_pass(pair, 256, 512);
    hold_decoding(pair, 100, 8);
    hold_packed(pair, {70, 130, 1});
  }
}

std::vector<std::string> manifests;

void folders_have_the_cpu_s_bits() {
  for (const std::string& path : manifests)
    for (const Dtype kv : {Dtype::bf16, Dtype::f16, Dtype::f32}) {
      const Subject subject = read_manifest(path, kv);
      const Pair pair(subject);
      hold_pass(pair, std::min<size_t>(subject.config.max_positions, kEmulated ? 70 : 300), 128);
      if (kv != Dtype::bf16) continue;
      hold_decoding(pair, 40, kEmulated ? 3 : 12);
      hold_packed(pair, {5, 70, 1});
      hold_streamed(pair, 30);
    }
}

// Null, with a message, where no device can be used.
const cuda::Api* open_device(const std::string& path) {
#if defined(POC_CHECK_EMULATED)
  (void)path;
  return poc_cuda_api(cuda::kAbiVersion);
#else
  const cuda::Module& module = cuda::open_module(path);
  if (!module.api) fprintf(stderr, "no GPU: %s\n", module.reason.c_str());
  for (const cuda::AbiDevice& d : module.devices) printf("%s, %d.%d\n", d.name, d.major, d.minor);
  return module.api;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  int first = 1;
  if (!kEmulated && argc < 2) return fprintf(stderr, "the first argument is libpoc_cuda.so\n"), 1;
  api = open_device(kEmulated ? "" : argv[first++]);
  if (!api) return 2;
  manifests.assign(argv + first, argv + argc);
  RUN(random_models_have_the_cpu_s_bits);
  if (!quick()) RUN(lengths_and_head_dims_have_the_cpu_s_bits);
  if (!quick() && !kEmulated) RUN(real_shapes_have_the_cpu_s_bits);
  if (!manifests.empty()) RUN(folders_have_the_cpu_s_bits);
  return result();
}
