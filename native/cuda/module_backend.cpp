#include "module_backend.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <thread>

#include "../core/error.h"

namespace poc::cuda {
namespace {

// The codes a module may answer with; Error keeps a pointer to a constant.
const char* known_code(const char* code) {
  for (const char* known : {"OUT_OF_MEMORY", "BACKEND_FAILED", "BACKEND_UNAVAILABLE", "MODEL_NON_FINITE"})
    if (std::string(known) == code) return known;
  return "INTERNAL";
}

// Calls a function of the module; what it answers with becomes an exception again.
template <class F, class... Args>
void call(F function, Args... args) {
  AbiError error = {};
  if (function(args..., &error) == 0) return;
  if (std::string(error.code) == "ABORTED") throw Cancelled();
  throw Error(known_code(error.code), error.message, error.where, error.expected, error.received);
}

int asked(const void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load() ? 1 : 0; }

AbiCancel cancel_of(const std::atomic<bool>& flag) { return {asked, &flag}; }

AbiMatrix view_of(const Matrix& m) { return {m.buffer->data(), m.dtype, m.num_outputs, m.num_inputs}; }

// A module's backend, closed when neither the model nor any of its memory needs it any more.
struct Handle {
  const Api& api;
  AbiBackend* backend = nullptr;
  explicit Handle(const Api& a) : api(a) {}
  ~Handle() {
    if (backend) api.close(backend);
  }
  Handle(const Handle&) = delete;
};

class DeviceBuffer : public Buffer {
 public:
  DeviceBuffer(std::shared_ptr<Handle> handle, void* data) : handle_(std::move(handle)), data_(data) {}
  ~DeviceBuffer() override { handle_->api.free(handle_->backend, data_); }
  void* data() override { return data_; }

 private:
  std::shared_ptr<Handle> handle_;
  void* data_;
};

struct RunHandle {
  std::shared_ptr<Handle> handle;
  AbiRun* run = nullptr;
  ~RunHandle() {
    if (run) handle->api.end(run);
  }
};

class ModuleDownload : public Download {
 public:
  ModuleDownload(std::shared_ptr<RunHandle> run, std::shared_ptr<Buffer> buffer, size_t bytes)
      : run_(std::move(run)), buffer_(std::move(buffer)) {
    call(api().download, run_->run, buffer_->data(), bytes, &download_);
  }
  ~ModuleDownload() override {
    if (download_) api().release(download_);
  }
  const void* wait() override {
    const void* host = nullptr;
    call(api().wait, download_, &host);
    return host;
  }

 private:
  const Api& api() const { return run_->handle->api; }
  std::shared_ptr<RunHandle> run_;
  std::shared_ptr<Buffer> buffer_;
  AbiDownload* download_ = nullptr;
};

class ModuleOps : public Ops {
 public:
  ModuleOps(std::shared_ptr<Handle> handle, const std::atomic<bool>& cancelled)
      : api_(handle->api), cancel_(cancel_of(cancelled)), run_(std::make_shared<RunHandle>()) {
    run_->handle = handle;
    call(api_.begin, handle->backend, &cancel_, &run_->run);
  }

  void embed(const Matrix& table, const uint32_t* tokens, Rows out) override {
    const AbiMatrix matrix = view_of(table);
    call(api_.embed, run_->run, &matrix, tokens, out);
  }
  void gather(Rows x, const uint32_t* rows, Rows out) override { call(api_.gather, run_->run, x, rows, out); }
  void rope_table(const Vector& frequencies, const uint32_t* positions, size_t num_positions, float* cosines,
                  float* sines) override {
    call(api_.rope_table, run_->run, frequencies.data(), frequencies.size, positions, num_positions, cosines, sines);
  }
  void rmsnorm(Rows x, const float* weight, float eps, Rows out) override {
    call(api_.rmsnorm, run_->run, x, weight, eps, out);
  }
  void matmul(Rows x, const Matrix& w, Rows out) override {
    const AbiMatrix matrix = view_of(w);
    call(api_.matmul, run_->run, x, &matrix, out);
  }
  void rope_kv(const RopeKvArgs& args) override { call(api_.rope_kv, run_->run, &args); }
  void attention(const AttentionArgs& args) override { call(api_.attention, run_->run, &args); }
  void swiglu(Rows gate, Rows up) override { call(api_.swiglu, run_->run, gate, up); }
  void add(Rows x, Rows y) override { call(api_.add, run_->run, x, y); }
  void extract(const KvView& cache, const uint32_t* positions, size_t num_positions, void* k, void* v) override {
    call(api_.extract, run_->run, &cache, positions, num_positions, k, v);
  }
  std::unique_ptr<Download> download(std::shared_ptr<Buffer> buffer, size_t bytes) override {
    return std::make_unique<ModuleDownload>(run_, std::move(buffer), bytes);
  }
  size_t layers_ahead() const override { return 1; }

 private:
  const Api& api_;
  const AbiCancel cancel_;
  std::shared_ptr<RunHandle> run_;
};

class ModuleBackend : public Backend {
 public:
  ModuleBackend(const Api& api, int device) : handle_(std::make_shared<Handle>(api)) {
    call(api.open, device, &handle_->backend);
  }

  std::unique_ptr<Buffer> allocate(size_t bytes) override {
    void* data = nullptr;
    call(api().allocate, handle_->backend, bytes, &data);
    return owned(data);
  }
  std::unique_ptr<Buffer> upload(const void* host, size_t bytes) override {
    void* data = nullptr;
    call(api().upload, handle_->backend, host, bytes, &data);
    return owned(data);
  }
  Matrix pack(const TensorView& weight, const std::atomic<bool>& cancelled) override {
    void* data = nullptr;
    const AbiCancel cancel = cancel_of(cancelled);
    call(api().pack, handle_->backend, &weight, &cancel, &data);
    return {owned(data), weight.dtype, weight.rows, weight.cols};
  }
  Vector widen(const TensorView& weight) override {
    void* data = nullptr;
    call(api().widen, handle_->backend, &weight, &data);
    return {owned(data), weight.cols};
  }
  void finish_weights() override { call(api().finish_weights, handle_->backend); }
  size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) const override {
    return api().packed_bytes(num_outputs, num_inputs, dtype);
  }
  std::unique_ptr<Ops> ops(const std::atomic<bool>& cancelled) override {
    return std::make_unique<ModuleOps>(handle_, cancelled);
  }
  size_t row_stride(size_t cols) const override { return api().row_stride(cols); }
  size_t host_threads() const override { return std::clamp(std::thread::hardware_concurrency(), 1u, 16u); }
  KvView kv_layout(const Config& config, Dtype dtype, size_t capacity, size_t* k_bytes,
                   size_t* v_bytes) const override {
    return api().kv_layout(config.num_kv_heads, config.head_dim, dtype, capacity, k_bytes, v_bytes);
  }

 private:
  const Api& api() const { return handle_->api; }
  std::unique_ptr<Buffer> owned(void* data) { return std::make_unique<DeviceBuffer>(handle_, data); }
  std::shared_ptr<Handle> handle_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(const Api& api, int device) {
  return std::make_unique<ModuleBackend>(api, device);
}

}  // namespace poc::cuda
