// Runs native work off the JS thread, on threads of our own, and settles promises on it.
// Not libuv's pool: node waits for pool work before it calls cleanup hooks, so work there could not be
// stopped by worker.terminate(), and long jobs would keep fs, dns and crypto waiting.
#pragma once
#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "error.h"

namespace poc::binding {

using CancelFlag = std::shared_ptr<std::atomic<bool>>;

class Executor {
 public:
  explicit Executor(Napi::Env env);
  ~Executor();

  // Calls work() on a thread, then resolves the promise with result(env) or rejects it. `keep` lists JS
  // values (buffers that work() writes to, the owner) that must live until then. When the environment
  // is torn down, every `cancel` flag is set and the threads are joined before anything is freed.
  Napi::Promise run(Napi::Env env, CancelFlag cancel, const std::vector<Napi::Value>& keep, std::function<void()> work,
                    std::function<Napi::Value(Napi::Env)> result);

 private:
  struct Job;
  static void settle(napi_env env, napi_value, void* context, void* data);
  static void cleanup(void* self);
  void thread_main();
  void stop();

  napi_env env_;
  napi_threadsafe_function to_js_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> queue_;
  std::list<std::unique_ptr<Job>> jobs_;  // all unsettled ones; JS thread only
  std::vector<std::thread> threads_;
  size_t max_threads_, idle_ = 0;
  bool stopping_ = false;
};

// A job's turn with a run, on the thread that works. Whatever happens, the next call may come; a run that was cancelled
// gives back what it holds, also when cancel() came after the last look and found the run still busy.
template <class Run>
class Turn {
 public:
  explicit Turn(Run& run) : run_(run) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    const bool cancelled = *run_.cancel;
    if (cancelled) run_.release();
    run_.busy = false;
    if (cancelled || !*run_.cancel || run_.busy.exchange(true)) return;
    run_.release();
    run_.busy = false;
  }

 private:
  Run& run_;
};

// Gives what an idle run holds back at once, on a thread that may wait for the device; a busy run does it itself.
template <class Run>
void give_back(Executor& executor, Napi::Env env, const std::shared_ptr<Run>& run) {
  if (run->busy.exchange(true)) return;
  const auto release = [run] {
    run->release();
    run->busy = false;
  };
  if (!run->begun()) return release();
  executor.run(env, run->cancel, {}, release, [](Napi::Env e) { return e.Undefined(); });
}

}  // namespace poc::binding
