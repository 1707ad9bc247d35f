// One model's device side, and the ops of one run on it.
#pragma once
#include <deque>
#include <memory>

#include "weights.h"

namespace poc::cuda {

// The words that stop runs. They are set and cleared on a stream that never waits for work, so that stopping one run
// is not held up by what others have queued.
class StopWords {
 public:
  explicit StopWords(DevicePool& memory);
  ~StopWords();
  uint32_t* take();  // cleared
  void set(uint32_t* word) noexcept;
  // Queued kernels of `compute` may still read it.
  void give_back(uint32_t* word, const Stream& compute) noexcept;

 private:
  static constexpr int kCount = 256;  // of runs at once
  DevicePool& memory_;
  Stream control_;
  std::mutex mutex_;
  uint32_t* words_;
  std::deque<std::pair<uint32_t*, std::unique_ptr<Event>>> kept_;  // with the end of the work that reads it
};

// Memory, streams and uploads of one model. All runs queue on one compute stream, which also orders the use
// of memory; downloads, weights and stop words have streams of their own.
struct DeviceBackend {
  explicit DeviceBackend(int number) : device(number) {}
  const int device;
  Stream compute, downloads;
  DevicePool memory{compute};
  PinnedPool pinned;
  WeightUpload weights{memory, pinned};
  StopWords stop_words{memory};

  void* allocate(size_t bytes);
  void* upload(const void* host, size_t bytes);
};

class Run {
 public:
  Run(DeviceBackend& backend, const AbiCancel& cancel);
  ~Run();

  DeviceBackend& backend() const { return backend_; }
  // Where to launch; throws Cancelled once the caller asked for it.
  Queue queue();
  bool cancelled() const { return cancel_.asked(cancel_.context) != 0; }
  // Makes what is queued end at once: kernels that begin from now on do nothing.
  void stop();

 private:
  DeviceBackend& backend_;
  const AbiCancel cancel_;
  uint32_t* stop_word_;
  bool stopped_ = false;
};

// Device memory on its way to a pinned buffer, beside the computation that goes on.
class DeviceDownload {
 public:
  DeviceDownload(Run& run, const void* data, size_t bytes);
  ~DeviceDownload();
  const void* wait();
  Run& run() const { return run_; }

 private:
  Run& run_;
  const size_t bytes_;
  void* const pinned_;
  Event arrived_;
  bool waited_ = false;
};

}  // namespace poc::cuda
