// Weights on their way to the device: through two pinned buffers, packed there, on a stream of their own.
#pragma once
#include <string>
#include <vector>

#include "abi.h"
#include "kernels.h"
#include "memory.h"

namespace poc::cuda {

class WeightUpload {
 public:
  WeightUpload(DevicePool& memory, PinnedPool& pinned) : memory_(memory), pinned_(pinned) {}
  ~WeightUpload();

  // Device memory of the packed matrix or the widened vector; good after finish().
  void* pack(const TensorView& weight, const AbiCancel& cancel);
  void* widen(const TensorView& weight);
  // Waits until all weights are there; throws MODEL_NON_FINITE for one with a NaN or an infinity.
  void finish();

 private:
  // One of two: filled by the host while the other one is copied and packed.
  struct Slot {
    void *pinned = nullptr, *device = nullptr;
    size_t bytes = 0;
    Event done;
  };
  Slot& next_slot(size_t bytes);
  uint32_t* next_flag(const std::string& name);
  void release(Slot& slot) noexcept;

  DevicePool& memory_;
  PinnedPool& pinned_;
  Stream stream_;
  std::mutex mutex_;
  Slot slots_[2];
  size_t turn_ = 0;
  uint32_t* flags_ = nullptr;       // one for each weight since the last finish(), on the device
  std::vector<std::string> names_;  // theirs
};

}  // namespace poc::cuda
