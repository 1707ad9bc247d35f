#include "run.h"

#include <chrono>
#include <thread>

namespace poc::cuda {

void* DeviceBackend::allocate(size_t bytes) {
  void* data = memory.take(bytes);
  const cudaError_t error = cudaMemsetAsync(data, 0, bytes, compute.get());
  if (error != cudaSuccess) memory.give_back(data);
  check(error, "clear memory");
  return data;
}

// From memory that is not pinned: the bytes are taken before the call returns.
void* DeviceBackend::upload(const void* host, size_t bytes) {
  void* data = memory.take(bytes);
  if (bytes == 0) return data;
  const cudaError_t error = cudaMemcpyAsync(data, host, bytes, cudaMemcpyHostToDevice, compute.get());
  if (error != cudaSuccess) memory.give_back(data);
  check(error, "copy to the device");
  return data;
}

StopWords::StopWords(DevicePool& memory)
    : memory_(memory), words_(static_cast<uint32_t*>(memory.take_for(control_, kCount * sizeof(uint32_t)))) {
  for (int i = 0; i < kCount; ++i) kept_.emplace_back(words_ + i, nullptr);
}

StopWords::~StopWords() { memory_.give_back(words_); }

uint32_t* StopWords::take() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (kept_.empty()) throw Error("BACKEND_FAILED", "more than " + std::to_string(kCount) + " runs at once", "cuda");
  auto [word, free] = std::move(kept_.front());
  kept_.pop_front();
  lock.unlock();
  if (free) free->synchronize();
  check(cudaMemsetAsync(word, 0, sizeof(uint32_t), control_.get()), "clear a stop word");
  control_.synchronize();
  return word;
}

// Done when this returns, since the word is given back soon after.
void StopWords::set(uint32_t* word) noexcept {
  cudaMemsetAsync(word, 1, sizeof(uint32_t), control_.get());
  cudaStreamSynchronize(control_.get());
}

void StopWords::give_back(uint32_t* word, const Stream& compute) noexcept {
  try {
    auto free = std::make_unique<Event>();
    free->record(compute);
    std::lock_guard<std::mutex> lock(mutex_);
    kept_.emplace_back(word, std::move(free));
  } catch (...) {  // a failed device: nothing will run on it again
  }
}

Run::Run(DeviceBackend& backend, const AbiCancel& cancel)
    : backend_(backend), cancel_(cancel), stop_word_(backend.stop_words.take()) {}

Run::~Run() {
  if (cancelled()) stop();
  backend_.stop_words.give_back(stop_word_, backend_.compute);
}

Queue Run::queue() {
  if (cancelled()) {
    stop();
    throw Cancelled();
  }
  return {backend_.compute.get(), stop_word_};
}

void Run::stop() {
  if (stopped_) return;
  stopped_ = true;
  backend_.stop_words.set(stop_word_);
}

DeviceDownload::DeviceDownload(Run& run, const void* data, size_t bytes)
    : run_(run), bytes_(bytes), pinned_(run.backend().pinned.take(bytes)) {
  DeviceBackend& backend = run.backend();
  Event computed;
  try {
    computed.record(backend.compute);
    computed.hold_back(backend.downloads);
    check(cudaMemcpyAsync(pinned_, data, bytes, cudaMemcpyDeviceToHost, backend.downloads.get()), "copy to the host");
    arrived_.record(backend.downloads);
  } catch (...) {
    cudaStreamSynchronize(backend.downloads.get());
    backend.pinned.give_back(pinned_, bytes_);
    throw;
  }
}

// Polls, so that a run that is cancelled meanwhile can be stopped: first often, then twenty times a millisecond.
const void* DeviceDownload::wait() {
  for (int tries = 0; !waited_; ++tries) {
    if (run_.cancelled()) {
      run_.stop();
      arrived_.synchronize();
      throw Cancelled();
    }
    waited_ = arrived_.reached();
    if (!waited_ && tries > 200) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return pinned_;
}

// Nobody may take the buffer while the copy is still under way.
DeviceDownload::~DeviceDownload() {
  if (!waited_ && run_.cancelled()) run_.stop();  // what is queued is not wanted any more
  if (!waited_) arrived_.settle();
  run_.backend().pinned.give_back(pinned_, bytes_);
}

}  // namespace poc::cuda
