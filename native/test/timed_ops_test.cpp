// Timed backends: every op is handed on once and counted once, what it takes is what it is charged, and
// results keep their bits.
#include "../core/timed_ops.h"

#include <functional>
#include <thread>

#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};
constexpr double kNap = 0.002;  // seconds

// Sleeps in each op and remembers how often it was called.
class SleepyOps : public Ops {
 public:
  explicit SleepyOps(std::array<size_t, OpTimes::kNumOps>& calls) : calls_(calls) {}
  void embed(const Matrix&, const uint32_t*, Rows) override { nap(OpTimes::embed); }
  void gather(Rows, const uint32_t*, Rows) override { nap(OpTimes::gather); }
  void rope_table(const Vector&, const uint32_t*, size_t, float*, float*) override { nap(OpTimes::rope_table); }
  void rmsnorm(Rows, const float*, float, Rows) override { nap(OpTimes::rmsnorm); }
  void matmul(Rows, const Matrix&, Rows) override { nap(OpTimes::matmul); }
  void rope_kv(const RopeKvArgs&) override { nap(OpTimes::rope_kv); }
  void attention(const AttentionArgs&) override { nap(OpTimes::attention); }
  void swiglu(Rows, Rows) override { nap(OpTimes::swiglu); }
  void add(Rows, Rows) override { throw Cancelled(); }
  void extract(const KvView&, const uint32_t*, size_t, void*, void*) override { nap(OpTimes::extract); }
  std::unique_ptr<Download> download(std::shared_ptr<Buffer>, size_t) override { return nullptr; }
  size_t layers_ahead() const override { return 3; }

 private:
  void nap(OpTimes::Op op) {
    ++calls_[op];
    std::this_thread::sleep_for(std::chrono::duration<double>(kNap));
  }
  std::array<size_t, OpTimes::kNumOps>& calls_;
};

class SleepyBackend : public Backend {
 public:
  std::array<size_t, OpTimes::kNumOps> calls = {};

  std::unique_ptr<Buffer> allocate(size_t) override { return nullptr; }
  std::unique_ptr<Buffer> upload(const void*, size_t) override { return nullptr; }
  Matrix pack(const TensorView&, const std::atomic<bool>&) override { return {}; }
  Vector widen(const TensorView&) override { return {}; }
  void finish_weights() override {}
  size_t packed_bytes(size_t, size_t, Dtype) const override { return 17; }
  std::unique_ptr<Ops> ops(const std::atomic<bool>&) override { return std::make_unique<SleepyOps>(calls); }
  size_t row_stride(size_t cols) const override { return cols + 5; }
  KvView kv_layout(const Config&, Dtype, size_t, size_t*, size_t*) const override { return {}; }
};

// Calls op number `op`, whatever it is given.
void call(Ops& ops, size_t op) {
  const std::vector<std::function<void()>> all = {
      [&] { ops.embed({}, nullptr, {}); },
      [&] { ops.gather({}, nullptr, {}); },
      [&] { ops.rope_table({}, nullptr, 0, nullptr, nullptr); },
      [&] { ops.rmsnorm({}, nullptr, 0, {}); },
      [&] { ops.matmul({}, {}, {}); },
      [&] { ops.rope_kv({}); },
      [&] { ops.attention({}); },
      [&] { ops.swiglu({}, {}); },
      [&] { ops.add({}, {}); },
      [&] { ops.extract({}, nullptr, 0, nullptr, nullptr); },
  };
  all[op]();
}

void each_op_is_counted_and_charged() {
  auto inner = std::make_unique<SleepyBackend>();
  const auto& calls = inner->calls;
  const auto times = std::make_shared<OpTimes>();
  const auto backend = timed(std::move(inner), times);
  CHECK(backend->packed_bytes(1, 1, Dtype::f32) == 17 && backend->row_stride(3) == 8);
  const auto ops = backend->ops(never);
  CHECK(ops->layers_ahead() == 3);
  for (const OpTime& t : times->list()) CHECK(t.calls == 0 && t.seconds == 0, t.op);
  for (size_t op = 0; op < OpTimes::kNumOps; ++op) {
    if (op == OpTimes::add) continue;
    for (size_t i = 0; i <= op; ++i) call(*ops, op);
  }
  CHECK(error_of([&] { call(*ops, OpTimes::add); }) == "ABORTED");
  const std::vector<OpTime> list = times->list();
  CHECK(list.size() == OpTimes::kNumOps);
  for (size_t op = 0; op < list.size(); ++op) {
    if (op == OpTimes::add) {
      CHECK(list[op].calls == 1, "an op that throws was called");
      continue;
    }
    CHECK(calls[op] == op + 1 && list[op].calls == op + 1, list[op].op, " was called ", list[op].calls, " times");
    CHECK(list[op].seconds >= kNap * static_cast<double>(op + 1), list[op].op, " was charged ", list[op].seconds);
  }
  CHECK(std::string(list[OpTimes::matmul].op) == "matmul" && std::string(list[OpTimes::extract].op) == "extract");
}

void results_keep_their_bits() {
  for (const RandomModel& m : random_models()) {
    const std::vector<uint32_t> tokens = m.tokens(quick() ? 5 : 19);
    const auto times = std::make_shared<OpTimes>();
    const auto plain = m.load(2, "auto");
    const auto timed_backend = m.load_on(timed(cpu::make_backend(2, "auto"), times));
    const auto from = std::chrono::steady_clock::now();
    const PassResult result = whole_pass(timed_backend, m.kv, tokens, 8);
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - from;
    const PassResult expected = whole_pass(plain, m.kv, tokens, 8);
    CHECK(result == expected, m.name, ": ", difference(result, expected));
    double sum = 0;
    for (const OpTime& t : times->list()) sum += t.seconds;
    CHECK(sum > 0 && sum <= wall.count(), m.name, ": ops took ", sum, " of ", wall.count(), " s");
  }
}

void threads_may_count_at_once() {
  OpTimes times;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&times] {
      for (int n = 0; n < 1000; ++n) times.count(OpTimes::add, 0.25);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(times.list()[OpTimes::add].calls == 4000 && times.list()[OpTimes::add].seconds == 1000);
}

}  // namespace

int main() {
  RUN(each_op_is_counted_and_charged);
  RUN(results_keep_their_bits);
  RUN(threads_may_count_at_once);
  return result();
}
