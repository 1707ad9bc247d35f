// Owners of what the CUDA runtime hands out, and its errors as exceptions.
#pragma once
#include <mutex>
#include <string>
#include <utility>

#include "../core/error.h"
#include "ptx/ptx.h"

namespace poc::cuda {

// Throws OUT_OF_MEMORY or BACKEND_FAILED; `what` says what was being done.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next call is not blamed for it
  const std::string text = std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
  const char* code = error == cudaErrorMemoryAllocation ? "OUT_OF_MEMORY" : "BACKEND_FAILED";
  throw Error(code, std::string("CUDA failed to ") + what + ": " + text, "cuda");
}

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void synchronize() const { check(cudaStreamSynchronize(stream_), "finish the work of a stream"); }

 private:
  cudaStream_t stream_ = nullptr;
};

// A point in a stream's work.
class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  void record(const Stream& stream) { check(cudaEventRecord(event_, stream.get()), "record an event"); }
  // Work that `stream` is given from now on waits for the record.
  void hold_back(const Stream& stream) const {
    check(cudaStreamWaitEvent(stream.get(), event_, 0), "order two streams");
  }
  void synchronize() const { check(cudaEventSynchronize(event_), "wait for an event"); }
  // The same where an error has been told already, or nobody is left to tell.
  void settle() const noexcept { cudaEventSynchronize(event_); }
  // Whether the record was reached.
  bool reached() const {
    const cudaError_t error = cudaEventQuery(event_);
    if (error == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(error, "run the queued work");
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace poc::cuda
