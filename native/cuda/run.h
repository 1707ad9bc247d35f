// One model's device side, and the ops of one run on it.
#pragma once
#include <memory>

#include "weights.h"

namespace poc::cuda {

// Memory, streams and uploads of one model. All runs queue on one compute stream, which also orders the use
// of memory; downloads and stop words have streams of their own.
struct DeviceBackend {
  explicit DeviceBackend(int number) : device(number) {}
  const int device;
  Stream compute, downloads, control;
  DevicePool memory{compute};
  PinnedPool pinned;
  WeightUpload weights{memory, pinned};

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
