// A file of packed weights: its bytes, that models mapped from it give the bits of models packed in memory, and what
// a file that is another, shorter or damaged one does.
#include "../core/packed_file.h"

#include <sys/resource.h>
#include <unistd.h>
#include <csignal>
#include <fstream>

#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};

struct Folder {
  std::string path;
  Folder() {
    const char* parent = getenv("TMPDIR");
    std::string name = std::string(parent ? parent : "/tmp") + "/poc-packed-XXXXXX";
    if (mkdtemp(&name[0])) path = name;
  }
  ~Folder() {
    unlink(file().c_str());
    rmdir(path.c_str());
  }
  std::string file() const { return path + "/file"; }
};

std::string write(const RandomModel& m, const std::string& path, const std::atomic<bool>& cancelled = never) {
  std::atomic<size_t> loaded{0};
  const auto backend = cpu::make_backend(2, "auto");
  return write_packed_file(path, *backend, m.config, m.source(), cancelled, loaded);
}

// Types and shapes, as a later load knows them.
TensorSource shapes(const RandomModel& m) {
  return [&m](const std::string& name) {
    TensorView view = m.source()(name);
    view.data = nullptr;
    return view;
  };
}

std::shared_ptr<const Model> map(const RandomModel& m, const std::string& path, size_t budget = kNoBudget,
                                 const std::string& header = "") {
  auto backend = cpu::make_backend(2, "auto");
  Weights weights = map_packed_file(path, header, *backend, m.config, shapes(m), budget);
  return make_model(std::move(backend), m.config, std::move(weights));
}

size_t least_budget(const std::function<void()>& load_with_one_byte) {
  try {
    load_with_one_byte();
  } catch (const Error& error) {
    CHECK(error.where == "weightBudgetBytes" && std::string(error.code) == "INVALID_ARGUMENT", error.what());
    return std::stoull(error.expected.substr(error.expected.rfind(' ')));
  }
  CHECK(false, "one byte was enough");
  return 0;
}

std::string contents_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
}

// The tensors' names in the order of docs/FORMATS.md.
std::vector<std::string> names_in_order(const Config& c) {
  std::vector<std::string> names{"model.embed_tokens.weight", "model.norm.weight"};
  if (!c.tied_head) names.push_back("lm_head.weight");
  for (size_t layer = 0; layer < c.num_layers; ++layer) {
    const auto add = [&](const char* name) {
      names.push_back("model.layers." + std::to_string(layer) + "." + name + (strstr(name, "bias") ? "" : ".weight"));
    };
    for (const char* name : {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) add(name);
    if (c.qkv_bias)
      for (const char* name : {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}) add(name);
    if (c.qk_norm)
      for (const char* name : {"self_attn.q_norm", "self_attn.k_norm"}) add(name);
    for (const char* name :
         {"self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      add(name);
  }
  return names;
}

void the_file_holds_every_weight_at_its_place() {
  for (const RandomModel& m : random_models()) {
    const Folder folder;
    CHECK(write(m, folder.file()) == "", m.name);
    const std::string bytes = contents_of(folder.file());
    size_t at = 4096, wrong = 0;
    CHECK(bytes.substr(0, at) == std::string(at, '\0'));
    for (const std::string& name : names_in_order(m.config)) {
      const RandomModel::Stored& stored = m.tensors.at(name);
      const reference::Array values = m.values(name);
      const bool vector = name.find("norm") != std::string::npos || name.find("bias") != std::string::npos;
      const size_t size = dtype_bytes(vector ? Dtype::f32 : m.weights);
      const size_t rows = vector ? 1 : (stored.rows + 31) / 32 * 32, count = rows * stored.cols;
      CHECK(at % 64 == 0 && at + count * size <= bytes.size(), m.name, " ", name);
      for (size_t i = 0; i < count && at + count * size <= bytes.size(); ++i) {
        const size_t col = vector ? i : i / 32 % stored.cols;
        const size_t row = vector ? 0 : i / (32 * stored.cols) * 32 + i % 32;
        const double expected = row < stored.rows ? values.data[row * stored.cols + col] : 0;
        wrong += load_float(bytes.data() + at, vector ? Dtype::f32 : m.weights, i) != expected;
      }
      at += (count * size + 63) / 64 * 64;
    }
    CHECK(at == bytes.size() && wrong == 0, m.name, ": ", wrong, " values, ", at, " of ", bytes.size());
  }
}

void mapped_weights_give_the_bits_of_packed_ones() {
  for (const RandomModel& m : random_models()) {
    const Folder folder;
    CHECK(write(m, folder.file()) == "");
    const std::vector<uint32_t> tokens = m.tokens(25);
    const PassResult expected = whole_pass(m.load(2, "auto"), m.kv, tokens, 7);
    const size_t least = least_budget([&] { map(m, folder.file(), 1); });
    CHECK(least == least_budget([&] { m.load_on(cpu::make_backend(2, "auto"), 1); }), m.name);
    CHECK(error_of([&] { map(m, folder.file(), least - 1); }) == "INVALID_ARGUMENT weightBudgetBytes");
    for (const size_t budget : {kNoBudget, least}) {
      const auto model = map(m, folder.file(), budget);
      CHECK(model->weights.streamed() == (budget == least && m.config.num_layers > 2), m.name);
      for (int pass = 0; pass < 3; ++pass) {
        const PassResult got = whole_pass(model, m.kv, tokens, 7);
        CHECK(got == expected, m.name, ", pass ", pass, ": ", difference(expected, got));
        CHECK(model->weights.source->in_memory(m.config.num_layers) == !model->weights.streamed());
      }
    }
  }
}

void an_unlinked_or_replaced_file_stays_what_it_was() {
  const RandomModel m = random_models()[0];
  const Folder folder;
  CHECK(write(m, folder.file()) == "");
  const auto model = map(m, folder.file());
  unlink(folder.file().c_str());
  put(folder.file(), "another file");
  const std::vector<uint32_t> tokens = m.tokens(9);
  CHECK(whole_pass(model, m.kv, tokens, 7) == whole_pass(m.load(1, "auto"), m.kv, tokens, 7));
}

void another_file_is_refused() {
  const RandomModel m = random_models()[0];
  const Folder folder;
  const std::string path = folder.file();
  CHECK(error_of([&] { map(m, path); }) == "FILE_NOT_FOUND " + path);
  CHECK(write(m, path) == "");
  const std::string bytes = contents_of(path), malformed = "MODEL_MALFORMED " + path;
  put(path, "a header" + bytes.substr(8));
  CHECK(error_of([&] { map(m, path, kNoBudget, "a header"); }).empty());
  CHECK(error_of([&] { map(m, path, kNoBudget, "a hEader"); }) == malformed);
  CHECK(error_of([&] { map(m, path, kNoBudget, std::string(4097, '\0')); }) == malformed);
  for (const size_t size : {size_t{0}, size_t{100}, size_t{4096}, bytes.size() - 1}) {
    put(path, bytes.substr(0, size));
    CHECK(error_of([&] { map(m, path); }) == malformed, size);
  }
  put(path, bytes + "x");
  CHECK(error_of([&] { map(m, path); }) == malformed);
}

// Values are then wrong, NaN and infinities among them, but nothing else is.
void damaged_weights_are_no_crash() {
  const RandomModel m = random_models()[2];
  const Folder folder;
  CHECK(write(m, folder.file()) == "");
  std::string bytes = contents_of(folder.file());
  Random random(91);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 1 << round; ++i)
      bytes[4096 + random.below(bytes.size() - 4096)] = static_cast<char>(random.next());
    put(folder.file(), bytes);
    const PassResult got = whole_pass(map(m, folder.file()), m.kv, m.tokens(9), 7);
    CHECK(got.k.size() == m.config.num_layers);
  }
}

void a_file_that_cannot_be_written_is_no_error_of_the_weights() {
  const RandomModel m = random_models()[0];
  const Folder folder;
  CHECK(!write(m, folder.path + "/missing/file").empty());
  put(folder.file(), "in the way");
  CHECK(!write(m, folder.file()).empty() && contents_of(folder.file()) == "in the way");
  unlink(folder.file().c_str());

  signal(SIGXFSZ, SIG_IGN);  // as if the disk were full after so many bytes
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  for (const rlim_t most : {0, 4096, 20000}) {
    const rlimit limit{most, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string reason = write(m, folder.file());
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(!reason.empty(), most);
    unlink(folder.file().c_str());
  }
  CHECK(write(m, folder.file()) == "");
}

void bad_weights_and_cancelling_end_the_writing() {
  const Folder folder;
  RandomModel m = random_models()[2];
  const std::atomic<bool> cancelled{true};
  CHECK(error_of([&] { write(m, folder.file(), cancelled); }) == "ABORTED");
  unlink(folder.file().c_str());
  const char* name = "model.layers.1.mlp.up_proj.weight";
  RandomModel::Stored& stored = m.tensors.at(name);
  stored.bytes[stored.offset] = 0x80, stored.bytes[stored.offset + 1] = 0xff;  // -infinity in bf16
  CHECK(error_of([&] { write(m, folder.file()); }) == std::string("MODEL_NON_FINITE ") + name);
  m.tensors.erase(name);
  unlink(folder.file().c_str());
  CHECK(error_of([&] { write(m, folder.file()); }) == std::string("MODEL_MALFORMED ") + name);
}

// Asking the kernel for the pages is an error where looking at them would be a signal.
void a_file_cut_off_while_it_is_mapped_is_an_error_of_the_next_pass() {
  if (quick()) {
    printf("skipped: emulators do not pass on the advice that finds it\n");
    return;
  }
  const RandomModel m = wide_model();
  const Folder folder;
  CHECK(write(m, folder.file()) == "");
  const size_t bytes = contents_of(folder.file()).size();
  const auto model = map(m, folder.file());
  CHECK(truncate(folder.file().c_str(), static_cast<off_t>(bytes - 100000)) == 0);
  CHECK(error_of([&] { whole_pass(model, m.kv, m.tokens(5), 7); }) == "MODEL_MALFORMED " + folder.file());
}

}  // namespace

int main() {
  RUN(the_file_holds_every_weight_at_its_place);
  RUN(mapped_weights_give_the_bits_of_packed_ones);
  RUN(an_unlinked_or_replaced_file_stays_what_it_was);
  RUN(another_file_is_refused);
  RUN(damaged_weights_are_no_crash);
  RUN(a_file_that_cannot_be_written_is_no_error_of_the_weights);
  RUN(bad_weights_and_cancelling_end_the_writing);
  RUN(a_file_cut_off_while_it_is_mapped_is_an_error_of_the_next_pass);
  return result();
}
