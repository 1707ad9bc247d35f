#include "thread_pool.h"

#include <utility>

#include "../core/error.h"
#include "../core/float_environment.h"

namespace poc::cpu {
namespace {

// Waking a sleeping thread takes longer than many ops of a decoded token do, so whoever waits looks out for
// a while before it sleeps: some 30 us, the gap between two ops.
constexpr int kLooks = 1000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Condition>
void look_out_for(Condition condition) {
  for (int i = 0; i < kLooks && !condition(); ++i) pause();
}

}  // namespace

// `next` hands out tasks; `active` counts threads inside; the last one to leave wakes the owner.
struct ThreadPool::Batch {
  const std::function<void(size_t)>* task;
  const std::atomic<bool>* cancelled;
  size_t count;
  std::atomic<size_t> next{0};
  std::atomic<size_t> active{0};  // raised under the pool's mutex
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
    if (batches_.empty() && !stopping_) {
      lock.unlock();
      look_out_for([this] { return num_batches_.load(std::memory_order_relaxed) > 0; });
      lock.lock();
    }
    wake_.wait(lock, [this] { return stopping_ || !batches_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Batch> batch = batches_.front();
    if (batch->next >= batch->count) {
      batches_.pop_front();
      num_batches_ = batches_.size();
      continue;
    }
    ++batch->active;
    lock.unlock();
    batch->run();
    const bool last = --batch->active == 0;
    lock.lock();  // the owner, between its look and its sleep, must not miss this
    if (last) batch->idle.notify_all();
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
      num_batches_ = batches_.size();
    }
    wake_.notify_all();
  }
  batch->run();
  finish(*batch);
  // Taken out, so that it goes where it is caught: a thread may hold the batch a little longer.
  if (const std::exception_ptr failure = std::exchange(batch->failure, nullptr)) std::rethrow_exception(failure);
  if (cancelled) throw Cancelled();
}

// Takes the batch off the list, so that no thread enters it any more, and waits for those inside.
void ThreadPool::finish(Batch& batch) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (auto it = batches_.begin(); it != batches_.end(); ++it) {
    if (it->get() == &batch) {
      batches_.erase(it);
      num_batches_ = batches_.size();
      break;
    }
  }
  lock.unlock();
  look_out_for([&] { return batch.active == 0; });
  lock.lock();
  batch.idle.wait(lock, [&] { return batch.active == 0; });
}

}  // namespace poc::cpu
