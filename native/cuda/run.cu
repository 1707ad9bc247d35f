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

Run::Run(DeviceBackend& backend, const AbiCancel& cancel)
    : backend_(backend), cancel_(cancel), stop_word_(static_cast<uint32_t*>(backend.allocate(sizeof(uint32_t)))) {}

Run::~Run() {
  if (cancelled()) stop();
  backend_.memory.give_back(stop_word_);
}

Queue Run::queue() {
  if (cancelled()) {
    stop();
    throw Cancelled();
  }
  return {backend_.compute.get(), stop_word_};
}

// On a stream of its own, past everything that is queued. Waited for, since the word is given back after it.
void Run::stop() {
  if (stopped_) return;
  stopped_ = true;
  cudaMemsetAsync(stop_word_, 1, sizeof(uint32_t), backend_.control.get());
  cudaStreamSynchronize(backend_.control.get());
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
  if (!waited_) arrived_.settle();
  run_.backend().pinned.give_back(pinned_, bytes_);
}

}  // namespace poc::cuda
