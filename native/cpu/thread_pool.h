// A fixed set of threads shared by all runs of one model. A run's own thread works along, so a pool of
// one thread has no threads of its own, and several runs at once share what there is.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace poc::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(size_t num_threads);
  ~ThreadPool();
  size_t num_threads() const { return threads_.size() + 1; }

  // Calls task(0) .. task(count - 1), each once, in any order, and returns when all have ended. Tasks not
  // yet begun are dropped once `cancelled` is set; then, or when a task throws, this throws.
  void parallel_for(size_t count, const std::atomic<bool>& cancelled, const std::function<void(size_t)>& task);

 private:
  struct Batch;
  void work();
  void finish(Batch& batch);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Batch>> batches_;
  std::atomic<size_t> num_batches_{0};  // of batches_, for threads that look without the mutex
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace poc::cpu
