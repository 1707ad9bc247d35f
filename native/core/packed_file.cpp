#include "packed_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"

namespace poc {
namespace {

// A weight inside a mapping that `owner` keeps.
class Part : public Buffer {
 public:
  Part(std::shared_ptr<const void> owner, const char* data) : owner_(std::move(owner)), data_(data) {}
  void* data() override { return const_cast<char*>(data_); }  // mapped read-only

 private:
  std::shared_ptr<const void> owner_;
  const char* data_;
};

// Weights lie one behind the other in the order in which they are asked for.
class Places {
 public:
  explicit Places(size_t begin) : at_(begin) {}
  size_t next(size_t bytes) {
    const size_t begin = at_;
    at_ += (bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
    return begin;
  }
  size_t end() const { return at_; }

 private:
  size_t at_;
};

// Gives weights that lie in a file from `begin` on, mapped at `base`; without one only their shapes.
class PlacedSource : public WeightSource {
 public:
  PlacedSource(const Backend& backend, const TensorSource& shapes, size_t begin, const char* base = nullptr,
               std::shared_ptr<const void> owner = nullptr)
      : backend_(backend), shapes_(shapes), places_(begin), base_(base), owner_(std::move(owner)) {}

  Matrix matrix(const std::string& name, size_t num_outputs, size_t num_inputs) override {
    const Dtype dtype = find_tensor(shapes_, name, num_outputs, num_inputs).dtype;
    return {next(backend_.packed_bytes(num_outputs, num_inputs, dtype)), dtype, num_outputs, num_inputs};
  }
  Vector vector(const std::string& name, size_t size) override {
    find_tensor(shapes_, name, 1, size);
    return {next(size * sizeof(float)), size};
  }
  size_t end() const { return places_.end(); }

 private:
  std::shared_ptr<Buffer> next(size_t bytes) {
    const size_t offset = places_.next(bytes);
    return base_ ? std::make_shared<Part>(owner_, base_ + offset) : nullptr;
  }

  const Backend& backend_;
  const TensorSource& shapes_;
  Places places_;
  const char* base_;
  std::shared_ptr<const void> owner_;
};

struct WriteFailed {
  std::string reason;
};

// Packs what is asked for, writes it and lets it go.
class WritingSource : public WeightSource {
 public:
  WritingSource(const std::string& path, const Backend& backend, PackingSource& packing,
                const std::atomic<bool>& cancelled)
      : backend_(backend), packing_(packing), cancelled_(cancelled), places_(kPackedHeaderBytes) {
    file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ < 0) throw WriteFailed{strerror(errno)};
  }
  ~WritingSource() override {
    if (file_ >= 0) close(file_);
  }

  Matrix matrix(const std::string& name, size_t num_outputs, size_t num_inputs) override {
    const Matrix m = packing_.matrix(name, num_outputs, num_inputs);
    write(*m.buffer, backend_.packed_bytes(num_outputs, num_inputs, m.dtype));
    return {nullptr, m.dtype, num_outputs, num_inputs};
  }
  Vector vector(const std::string& name, size_t size) override {
    const Vector v = packing_.vector(name, size);
    write(*v.buffer, size * sizeof(float));
    return {nullptr, size};
  }
  // What is missing at the end is padding.
  void finish() {
    if (ftruncate(file_, static_cast<off_t>(places_.end())) != 0 || close(std::exchange(file_, -1)) != 0)
      throw WriteFailed{strerror(errno)};
  }

 private:
  void write(Buffer& buffer, size_t bytes) {
    constexpr size_t kPiece = size_t{16} << 20;  // between looks at the flag
    const size_t offset = places_.next(bytes);
    for (size_t done = 0; done < bytes;) {
      if (cancelled_) throw Cancelled();
      const ssize_t count = pwrite(file_, static_cast<const char*>(buffer.data()) + done,
                                   std::min(bytes - done, kPiece), static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) throw WriteFailed{strerror(count < 0 ? errno : ENOSPC)};
      done += static_cast<size_t>(count);
    }
  }

  const Backend& backend_;
  PackingSource& packing_;
  const std::atomic<bool>& cancelled_;
  Places places_;
  int file_ = -1;
};

// Layers of a mapped file. Without a budget that they exceed, what has been read stays.
class MappedLayers : public LayerSource {
 public:
  MappedLayers(std::shared_ptr<const MappedFile> file, std::vector<size_t> bounds, const Backend& backend,
               const Config& config, const TensorSource& shapes, bool streamed)
      : file_(std::move(file)),
        bounds_(std::move(bounds)),
        backend_(backend),
        config_(config),
        shapes_(shapes),
        streamed_(streamed) {}

  LayerWeights load(size_t layer, const std::atomic<bool>& cancelled) override {
    const size_t begin = bounds_[layer], bytes = bounds_[layer + 1] - begin;
    file_->read(begin, bytes, cancelled);
    if (!streamed_) {
      size_t before = num_read_;  // passes begin with layer 0
      while (before < layer + 1 && !num_read_.compare_exchange_weak(before, layer + 1)) continue;
      return take(layer, file_);
    }
    // Whoever else computes with the layer just then reads it again.
    const auto let_go = [file = file_, begin, bytes](const char*) { file->let_go(begin, bytes); };
    return take(layer, std::shared_ptr<const char>(file_->data(), let_go));
  }
  bool in_memory(size_t num_layers) const override { return !streamed_ && num_read_ >= num_layers; }

  LayerWeights take(size_t layer, std::shared_ptr<const void> owner) const {
    PlacedSource placed(backend_, shapes_, bounds_[layer], file_->data(), std::move(owner));
    return take_layer(placed, config_, layer);
  }

 private:
  const std::shared_ptr<const MappedFile> file_;
  const std::vector<size_t> bounds_;  // layer l lies in [bounds[l], bounds[l + 1])
  const Backend& backend_;
  const Config config_;
  const TensorSource shapes_;
  const bool streamed_;
  std::atomic<size_t> num_read_{0};
};

}  // namespace

std::string write_packed_file(const std::string& path, Backend& backend, const Config& config,
                              const TensorSource& source, const std::atomic<bool>& cancelled,
                              std::atomic<size_t>& loaded) {
  try {
    PackingSource packing(backend, source, cancelled, loaded);
    WritingSource writing(path, backend, packing, cancelled);
    Weights shapes;
    take_rest(writing, config, &shapes);
    for (size_t layer = 0; layer < config.num_layers; ++layer) take_layer(writing, config, layer);
    writing.finish();
    return "";
  } catch (const WriteFailed& failed) {
    return failed.reason;
  }
}

Weights map_packed_file(const std::string& path, const std::string& header, const Backend& backend,
                        const Config& config, const TensorSource& shapes, size_t budget_bytes) {
  Weights w;
  PlacedSource layout(backend, shapes, kPackedHeaderBytes);
  take_rest(layout, config, &w);
  WeightBytes bytes;
  bytes.add_rest(backend, config, w);
  std::vector<size_t> bounds{layout.end()};
  for (size_t layer = 0; layer < config.num_layers; ++layer) {
    bytes.add(backend, take_layer(layout, config, layer));
    bounds.push_back(layout.end());
  }
  bytes.check(budget_bytes);
  const auto file = std::make_shared<const MappedFile>(path, layout.end());
  if (header.size() > kPackedHeaderBytes || memcmp(file->data(), header.data(), header.size()) != 0)
    throw wrong_value("MODEL_MALFORMED", path, "the file that was looked at", "another one");

  PlacedSource rest(backend, shapes, kPackedHeaderBytes, file->data(), file);
  take_rest(rest, config, &w);
  const bool streamed = bytes.all() > budget_bytes;
  const auto layers = std::make_shared<MappedLayers>(file, std::move(bounds), backend, config, shapes, streamed);
  if (!streamed)
    for (size_t layer = 0; layer < config.num_layers; ++layer) w.layers.push_back(layers->take(layer, file));
  w.source = layers;
  return w;
}

}  // namespace poc
