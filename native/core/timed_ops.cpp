#include "timed_ops.h"

#include <chrono>

namespace poc {
namespace {

// Counts one call, from its making to its end.
class Timer {
 public:
  Timer(OpTimes& times, OpTimes::Op op) : times_(times), op_(op) {}
  ~Timer() { times_.count(op_, std::chrono::duration<double>(Clock::now() - start_).count()); }
  Timer(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  OpTimes& times_;
  const OpTimes::Op op_;
  const Clock::time_point start_ = Clock::now();
};

class TimedOps : public Ops {
 public:
  TimedOps(std::unique_ptr<Ops> inner, OpTimes& times) : inner_(std::move(inner)), times_(times) {}

  void embed(const Matrix& table, const uint32_t* tokens, Rows out) override {
    const Timer timer(times_, OpTimes::embed);
    inner_->embed(table, tokens, out);
  }
  void gather(Rows x, const uint32_t* rows, Rows out) override {
    const Timer timer(times_, OpTimes::gather);
    inner_->gather(x, rows, out);
  }
  void rope_table(const Vector& frequencies, const uint32_t* positions, size_t num_positions, float* cosines,
                  float* sines) override {
    const Timer timer(times_, OpTimes::rope_table);
    inner_->rope_table(frequencies, positions, num_positions, cosines, sines);
  }
  void rmsnorm(Rows x, const float* weight, float eps, Rows out) override {
    const Timer timer(times_, OpTimes::rmsnorm);
    inner_->rmsnorm(x, weight, eps, out);
  }
  void matmul(Rows x, const Matrix& w, Rows out) override {
    const Timer timer(times_, OpTimes::matmul);
    inner_->matmul(x, w, out);
  }
  void rope_kv(const RopeKvArgs& args) override {
    const Timer timer(times_, OpTimes::rope_kv);
    inner_->rope_kv(args);
  }
  void attention(const AttentionArgs& args) override {
    const Timer timer(times_, OpTimes::attention);
    inner_->attention(args);
  }
  void swiglu(Rows gate, Rows up) override {
    const Timer timer(times_, OpTimes::swiglu);
    inner_->swiglu(gate, up);
  }
  void add(Rows x, Rows y) override {
    const Timer timer(times_, OpTimes::add);
    inner_->add(x, y);
  }
  void extract(const KvView& cache, const uint32_t* positions, size_t num_positions, void* k, void* v) override {
    const Timer timer(times_, OpTimes::extract);
    inner_->extract(cache, positions, num_positions, k, v);
  }
  std::unique_ptr<Download> download(std::shared_ptr<Buffer> buffer, size_t bytes) override {
    return inner_->download(std::move(buffer), bytes);
  }
  size_t layers_ahead() const override { return inner_->layers_ahead(); }

 private:
  std::unique_ptr<Ops> inner_;
  OpTimes& times_;
};

class TimedBackend : public Backend {
 public:
  TimedBackend(std::unique_ptr<Backend> inner, std::shared_ptr<OpTimes> times)
      : inner_(std::move(inner)), times_(std::move(times)) {}

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return inner_->allocate(bytes); }
  std::unique_ptr<Buffer> upload(const void* host, size_t bytes) override { return inner_->upload(host, bytes); }
  Matrix pack(const TensorView& weight, const std::atomic<bool>& cancelled) override {
    return inner_->pack(weight, cancelled);
  }
  Vector widen(const TensorView& weight) override { return inner_->widen(weight); }
  void finish_weights() override { inner_->finish_weights(); }
  size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) const override {
    return inner_->packed_bytes(num_outputs, num_inputs, dtype);
  }
  std::unique_ptr<Ops> ops(const std::atomic<bool>& cancelled) override {
    return std::make_unique<TimedOps>(inner_->ops(cancelled), *times_);
  }
  size_t row_stride(size_t cols) const override { return inner_->row_stride(cols); }
  size_t host_threads() const override { return inner_->host_threads(); }
  KvView kv_layout(const Config& config, Dtype dtype, size_t capacity, size_t* k_bytes,
                   size_t* v_bytes) const override {
    return inner_->kv_layout(config, dtype, capacity, k_bytes, v_bytes);
  }

 private:
  std::unique_ptr<Backend> inner_;
  std::shared_ptr<OpTimes> times_;
};

}  // namespace

OpTimes::OpTimes() {
  const char* names[kNumOps] = {"embed",   "gather",    "rope_table", "rmsnorm", "matmul",
                                "rope_kv", "attention", "swiglu",     "add",     "extract"};
  for (size_t op = 0; op < kNumOps; ++op) times_[op].op = names[op];
}

void OpTimes::count(Op op, double seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++times_[op].calls;
  times_[op].seconds += seconds;
}

std::vector<OpTime> OpTimes::list() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {times_.begin(), times_.end()};
}

std::unique_ptr<Backend> timed(std::unique_ptr<Backend> inner, std::shared_ptr<OpTimes> times) {
  return std::make_unique<TimedBackend>(std::move(inner), std::move(times));
}

}  // namespace poc
