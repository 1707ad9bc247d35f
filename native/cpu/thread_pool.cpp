#include "thread_pool.h"

#include "../core/error.h"
#include "../core/float_environment.h"

namespace poc::cpu {

// `next` hands out tasks; `active` counts threads inside; the last one to leave wakes the owner.
struct ThreadPool::Batch {
  const std::function<void(size_t)>* task;
  const std::atomic<bool>* cancelled;
  size_t count;
  std::atomic<size_t> next{0};
  size_t active = 0;  // guarded by the pool's mutex
  std::exception_ptr failure;
  std::mutex failure_mutex;
  std::condition_variable idle;

  void run() {
    const FloatEnvironment environment;
    for (size_t i; (i = next.fetch_add(1)) < count;) {
      if (cancelled->load(std::memory_order_relaxed)) break;
      try {
        (*task)(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  }
};

ThreadPool::ThreadPool(size_t num_threads) {
  for (size_t i = 1; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !batches_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Batch> batch = batches_.front();
    if (batch->next >= batch->count) {
      batches_.pop_front();
      continue;
    }
    ++batch->active;
    lock.unlock();
    batch->run();
    lock.lock();
    if (--batch->active == 0) batch->idle.notify_all();
  }
}

void ThreadPool::parallel_for(size_t count, const std::atomic<bool>& cancelled,
                              const std::function<void(size_t)>& task) {
  if (count == 0) return;
  const auto batch = std::make_shared<Batch>();
  batch->task = &task;
  batch->cancelled = &cancelled;
  batch->count = count;
  if (count > 1 && !threads_.empty()) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      batches_.push_back(batch);
    }
    wake_.notify_all();
  }
  batch->run();
  finish(*batch);
  if (batch->failure) std::rethrow_exception(batch->failure);
  if (cancelled) throw Cancelled();
}

// Takes the batch off the list, so that no thread enters it any more, and waits for those inside.
void ThreadPool::finish(Batch& batch) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (auto it = batches_.begin(); it != batches_.end(); ++it) {
    if (it->get() == &batch) {
      batches_.erase(it);
      break;
    }
  }
  batch.idle.wait(lock, [&] { return batch.active == 0; });
}

}  // namespace poc::cpu
