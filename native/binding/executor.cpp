#include "executor.h"

#include <algorithm>

namespace poc::binding {

struct Executor::Job {
  CancelFlag cancel;
  std::function<void()> work;
  std::function<Napi::Value(Napi::Env)> result;
  Napi::Promise::Deferred deferred;
  Napi::Reference<Napi::Array> keep;
  std::exception_ptr failure;
};

Executor::Executor(Napi::Env env)
    : env_(env), max_threads_(std::max(2u, std::min(8u, std::thread::hardware_concurrency()))) {
  napi_value name;
  napi_create_string_utf8(env, "proof-of-cache", NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, &Executor::settle,
                                      &to_js_) != napi_ok)
    throw Napi::Error::New(env, "could not make a thread-safe function");
  napi_unref_threadsafe_function(env, to_js_);  // an idle executor keeps no process alive
  // Hooks run in reverse order, so this one runs before the thread-safe function's own.
  napi_add_env_cleanup_hook(env, &Executor::cleanup, this);
}

Executor::~Executor() {
  stop();
  napi_remove_env_cleanup_hook(env_, &Executor::cleanup, this);
}

void Executor::cleanup(void* self) { static_cast<Executor*>(self)->stop(); }

void Executor::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  for (const auto& job : jobs_) *job->cancel = true;
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& job : jobs_) job->keep.SuppressDestruct();  // the environment frees its references
  jobs_.clear();
}

Napi::Promise Executor::run(Napi::Env env, CancelFlag cancel, const std::vector<Napi::Value>& keep,
                            std::function<void()> work, std::function<Napi::Value(Napi::Env)> result) {
  Napi::Array kept = Napi::Array::New(env, keep.size());
  for (uint32_t i = 0; i < keep.size(); ++i) kept[i] = keep[i];
  const auto deferred = Napi::Promise::Deferred::New(env);
  if (jobs_.empty()) napi_ref_threadsafe_function(env, to_js_);
  jobs_.push_back(std::unique_ptr<Job>(
      new Job{std::move(cancel), std::move(work), std::move(result), deferred, Napi::Persistent(kept), nullptr}));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(jobs_.back().get());
    if (idle_ < queue_.size() && threads_.size() < max_threads_) threads_.emplace_back([this] { thread_main(); });
  }
  wake_.notify_one();
  return deferred.Promise();
}

void Executor::thread_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (stopping_) return;
    Job* job = queue_.front();
    queue_.pop_front();
    lock.unlock();
    try {
      job->work();  // looks at the flag itself: what it holds must be given back even when nothing is to be done
    } catch (...) {
      job->failure = std::current_exception();
    }
    job->work = nullptr;  // drops what it held on this thread, not on the JS thread
    napi_call_threadsafe_function(to_js_, job, napi_tsfn_nonblocking);
    lock.lock();
  }
}

// JS thread. `env` is null while the environment goes away; the jobs are then freed by stop().
void Executor::settle(napi_env env, napi_value, void* context, void* data) {
  auto* self = static_cast<Executor*>(context);
  if (!env) return;
  const auto it = std::find_if(self->jobs_.begin(), self->jobs_.end(),
                               [&](const std::unique_ptr<Job>& job) { return job.get() == data; });
  if (it == self->jobs_.end()) return;
  const std::unique_ptr<Job> job = std::move(*it);
  self->jobs_.erase(it);
  if (self->jobs_.empty()) napi_unref_threadsafe_function(env, self->to_js_);
  Napi::HandleScope scope(env);
  // Any of these calls may fail while the environment is being terminated: nobody is left to be told then, and no
  // exception may leave this callback.
  try {
    try {
      if (job->failure)
        job->deferred.Reject(Failure::of(job->failure).to_js(env).Value());
      else
        job->deferred.Resolve(job->result(env));
    } catch (const Napi::Error& error) {
      job->deferred.Reject(error.Value());
    }
  } catch (...) {
  }
}

}  // namespace poc::binding
