// A file of packed weights whose every byte, and whose size, is somebody else's: mapping it gives weights or an Error,
// and passes over what was mapped read nothing outside it. Shapes are fuzzed too, as a config.json has them.
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../core/file_reader.h"
#include "../core/packed_file.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

constexpr size_t kMaxFile = size_t{1} << 20;
const std::atomic<bool> never{false};

// A file in memory, at a path like any other.
class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (file_ < 0) abort();
  }
  ~MemoryFile() { close(file_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }
  void resize(size_t bytes) const {
    if (ftruncate(file_, static_cast<off_t>(bytes)) != 0) abort();
  }
  void write(size_t offset, const std::string& bytes) const {
    if (pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset)) < 0) abort();
  }

 private:
  int file_;
};

Config fuzzed_config(FuzzedDataProvider& in) {
  const size_t most = in.PickValueInArray<size_t>({6, 6, 6, 6, 40, 40, size_t{1} << 20});
  const auto size = [&](size_t least = 1) { return in.ConsumeIntegralInRange<size_t>(least, most); };
  const size_t kv_heads = in.ConsumeIntegralInRange<size_t>(1, 3);
  Config c =
      shape(size(), size(), size(), in.ConsumeIntegralInRange<size_t>(1, 4),
            kv_heads * in.ConsumeIntegralInRange<size_t>(1, 3), kv_heads, 2 * in.ConsumeIntegralInRange<size_t>(1, 4));
  c.max_positions = 64;
  c.rope_theta = 10000;
  c.qkv_bias = in.ConsumeBool(), c.qk_norm = in.ConsumeBool(), c.tied_head = in.ConsumeBool();
  c.sliding_window = in.ConsumeIntegralInRange<size_t>(0, 3);
  return c;
}

// Every tensor of the config, of one type or another.
TensorSource shapes_of(const Config& c, const std::vector<uint8_t>& types) {
  return [c, types](const std::string& name) {
    const auto ends = [&](const char* end) { return name.size() > strlen(end) && name.find(end) != std::string::npos; };
    const bool kv = ends("k_proj") || ends("v_proj"), mlp = ends("gate_proj") || ends("up_proj");
    TensorView view{nullptr, Dtype::f32, c.vocab_size, c.hidden_size, "tensor"};
    const uint8_t type = types.empty() ? 0 : types[name.size() % types.size()];
    view.dtype = type % 3 == 0 ? Dtype::f32 : type % 3 == 1 ? Dtype::f16 : Dtype::bf16;
    if (ends("_proj")) view.rows = kv ? c.kv_size() : mlp ? c.intermediate_size : c.q_size();
    if (ends("o_proj")) view.rows = c.hidden_size, view.cols = c.q_size();
    if (ends("down_proj")) view.rows = c.hidden_size, view.cols = c.intermediate_size;
    if (ends("bias")) view.cols = view.rows, view.rows = 1;
    if (ends("norm.weight")) view.rows = 1, view.cols = ends("q_norm") || ends("k_norm") ? c.head_dim : c.hidden_size;
    if (ends("post_attention_layernorm")) view.rows = 1, view.cols = c.hidden_size;
    if (type > 250) view.rows += type - 250u;  // another shape than the config says
    return view;
  };
}

// The file's right size where the error says it; 0 where it says something else.
size_t right_size(const Error& error) {
  const std::string before = "a file of ";
  return error.expected.compare(0, before.size(), before) == 0 ? std::stoull(error.expected.substr(before.size())) : 0;
}

struct Mapping {
  Config config;
  TensorSource shapes;
  std::string header;
  size_t budget;

  Weights map(const std::string& path, const Backend& backend) const {
    return map_packed_file(path, header, backend, config, shapes, budget);
  }
};

// A pass over one token or more: whatever the weights are, it ends, and reads nothing but them.
void compute(const Mapping& mapping, const std::string& path, FuzzedDataProvider& in) {
  auto backend = cpu::make_backend(1, "auto");
  Weights weights = mapping.map(path, *backend);
  const auto model = make_model(std::move(backend), mapping.config, std::move(weights));
  std::vector<uint32_t> tokens(in.ConsumeIntegralInRange<size_t>(1, 5));
  for (uint32_t& token : tokens)
    token = in.ConsumeIntegralInRange<uint32_t>(0, static_cast<uint32_t>(model->config.vocab_size) - 1);
  whole_pass(model, Dtype::bf16, tokens, 2);
}

void read_pieces(const MemoryFile& file, size_t size, FuzzedDataProvider& in) {
  const FileReader reader(file.path(), size);
  const size_t offset = in.ConsumeIntegralInRange<size_t>(0, 2 * size),
               bytes = in.ConsumeIntegralInRange<size_t>(0, 999);
  std::vector<char> out(bytes);
  reader.read(offset, bytes, out.data());
  if (offset + bytes > size && bytes > 0) abort();  // read what is not there
}

// An empty input goes all the way; its bytes are what turns it aside.
void fuzz(FuzzedDataProvider& in) {
  const Config config = fuzzed_config(in);
  const auto types = in.ConsumeBytes<uint8_t>(in.ConsumeIntegralInRange<size_t>(0, 8));
  const size_t budget = in.ConsumeBool() ? in.ConsumeIntegralInRange<size_t>(0, kMaxFile) : kNoBudget;
  const std::string header = in.ConsumeRandomLengthString(64);
  const Mapping mapping{config, shapes_of(config, types), header, budget};
  static const auto backend = cpu::make_backend(1, "auto");  // making one takes longer than the rest
  const MemoryFile file;
  size_t size = in.ConsumeIntegralInRange<size_t>(0, 8192);
  file.resize(size);
  file.write(0, header);
  try {
    mapping.map(file.path(), *backend);
  } catch (const Error& error) {
    if (right_size(error) == 0 || right_size(error) > kMaxFile) throw;
    size = right_size(error);
  }
  file.resize(size);
  if (in.ConsumeBool()) file.write(0, in.ConsumeBool() ? header : in.ConsumeRandomLengthString(64));
  for (int i = 0; i < 4; ++i)
    if (size > kPackedHeaderBytes)
      file.write(in.ConsumeIntegralInRange<size_t>(kPackedHeaderBytes, size - 1), in.ConsumeRandomLengthString(64));
  file.resize(in.ConsumeIntegralInRange(0, 7) == 7 ? in.ConsumeIntegralInRange<size_t>(0, size + 4096) : size);
  if (in.ConsumeIntegralInRange(0, 7) == 7) read_pieces(file, size, in);
  const Weights weights = mapping.map(file.path(), *backend);
  if (in.ConsumeIntegralInRange(0, 3) == 3) compute(mapping, file.path(), in);
  if (!weights.source || !in.ConsumeBool()) return;
  file.resize(in.ConsumeIntegralInRange<size_t>(0, size));  // while it is mapped
  for (size_t layer = 0; layer < config.num_layers; ++layer) weights.source->load(layer, never);
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
