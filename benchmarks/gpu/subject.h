// What gpu_check puts through both backends: a model, seeded or from a folder, with its tensors.
#pragma once
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "../../native/core/mapped_file.h"
#include "../../native/test/random_model.h"

namespace poc::test {

struct Subject {
  std::string name;
  Config config;
  Dtype kv;
  TensorSource source;  // keeps what it needs alive

  std::shared_ptr<const Model> load(std::unique_ptr<Backend> backend, size_t budget_bytes = kNoBudget) const {
    const std::atomic<bool> never{false};
    std::atomic<size_t> loaded{0};
    return load_model(std::move(backend), config, source, never, loaded, budget_bytes);
  }
  std::vector<uint32_t> tokens(size_t count) const {
    Random random(digest(name.data(), name.size()));
    std::vector<uint32_t> out(count);
    for (uint32_t& token : out) token = static_cast<uint32_t>(random.below(config.vocab_size));
    return out;
  }
};

inline Subject subject_of(RandomModel random) {
  const auto model = std::make_shared<RandomModel>(std::move(random));
  return {model->name, model->config, model->kv,
          [model](const std::string& tensor) { return model->source()(tensor); }};
}

// Files and tensors that a manifest lists, see manifest.cmake.
struct Folder {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::map<std::string, TensorView> tensors;

  void add_file(std::istream& line) {
    size_t bytes = 0;
    std::string path;
    line >> bytes;
    std::getline(line >> std::ws, path);
    files.push_back(std::make_unique<MappedFile>(path, bytes));
  }
  void add_tensor(std::istream& line) {
    std::string name, dtype;
    size_t rows = 0, cols = 0, offset = 0;
    line >> name >> dtype >> rows >> cols >> offset;
    if (dtype != "F32" && dtype != "F16" && dtype != "BF16") return;  // whoever needs it finds it missing
    const Dtype type = dtype == "F32" ? Dtype::f32 : dtype == "F16" ? Dtype::f16 : Dtype::bf16;
    const MappedFile& file = *files.at(files.size() - 1);
    if (offset > file.size() || rows * cols > (file.size() - offset) / dtype_bytes(type))
      throw wrong_value("MODEL_MALFORMED", name, "inside its file", "beyond its end");
    const auto entry = tensors.emplace(name, TensorView{file.data() + offset, type, rows, cols, ""}).first;
    entry->second.name = entry->first.c_str();
  }
};

inline Config config_of(const std::map<std::string, double>& fields) {
  const auto get = [&](const char* name) { return fields.count(name) ? fields.at(name) : 0.0; };
  const auto size = [&](const char* name) { return static_cast<size_t>(get(name)); };
  Config c;
  c.vocab_size = size("vocab_size"), c.hidden_size = size("hidden_size");
  c.intermediate_size = size("intermediate_size"), c.num_layers = size("num_hidden_layers");
  c.num_heads = size("num_attention_heads"), c.num_kv_heads = size("num_key_value_heads");
  c.head_dim = size("head_dim"), c.max_positions = size("max_position_embeddings");
  c.rms_norm_eps = get("rms_norm_eps"), c.rope_theta = get("rope_theta");
  if (fields.count("factor"))
    c.rope_scaling = {get("factor"), get("low_freq_factor"), get("high_freq_factor"),
                      get("original_max_position_embeddings")};
  c.sliding_window = size("sliding_window");
  c.qkv_bias = size("qkv_bias") != 0, c.qk_norm = size("qk_norm") != 0, c.tied_head = size("tied_head") != 0;
  return c;
}

// The model of a manifest; throws where the file cannot be read.
inline Subject read_manifest(const std::string& path, Dtype kv) {
  std::ifstream in(path);
  if (!in) throw Error("FILE_NOT_FOUND", "cannot read " + path, path);
  const auto folder = std::make_shared<Folder>();
  std::map<std::string, double> fields;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string kind, name, value;
    words >> kind;
    if (kind == "file") folder->add_file(words);
    if (kind == "tensor") folder->add_tensor(words);
    if (kind == "config" && words >> name >> value) fields[name] = std::stod(value);
  }
  const auto source = [folder](const std::string& tensor) {
    const auto found = folder->tensors.find(tensor);
    if (found == folder->tensors.end()) throw wrong_value("MODEL_MALFORMED", tensor, "present", "nothing");
    return found->second;
  };
  return {path, config_of(fields), kv, source};
}

}  // namespace poc::test
