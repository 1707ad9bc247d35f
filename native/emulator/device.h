// The state of the emulated device: live memory, streams and events, and the first failure. One lock for all.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cuda_api.h"
#include "options.h"

// Position p of a stream is reached when its first p operations are done.
struct CUstream_st {
  struct Operation {
    std::function<void()> work;            // or, when empty, a wait:
    std::shared_ptr<CUstream_st> awaited;  // for this stream
    uint64_t position = 0;                 // to reach this position
  };
  std::deque<Operation> queue;
  uint64_t num_done = 0;
  uint64_t num_enqueued() const { return num_done + queue.size(); }
};

struct CUevent_st {
  std::shared_ptr<CUstream_st> stream;  // nullptr: never recorded, which counts as reached
  uint64_t position = 0;
  bool is_reached() const { return !stream || stream->num_done >= position; }
};

namespace poc::emulator {

using Stream = CUstream_st;

// Live blocks by their address.
class MemoryBlocks {
 public:
  // 256-byte aligned and full of 0xFF, as NaN as memory can be; nullptr when the machine has no more.
  void* allocate(size_t bytes) {
    void* p = nullptr;
    if (posix_memalign(&p, 256, bytes) != 0) return nullptr;
    memset(p, 0xFF, bytes);
    blocks_[reinterpret_cast<uintptr_t>(p)] = bytes;
    live_bytes_ += bytes;
    return p;
  }

  bool release(void* p) {
    const auto block = blocks_.find(reinterpret_cast<uintptr_t>(p));
    if (block == blocks_.end()) return false;
    live_bytes_ -= block->second;
    blocks_.erase(block);
    free(p);
    return true;
  }

  // All of these bytes lie in one live block.
  bool contains(const void* p, size_t bytes) const {
    const auto address = reinterpret_cast<uintptr_t>(p);
    auto block = blocks_.upper_bound(address);
    if (block == blocks_.begin()) return false;
    --block;
    const size_t offset = address - block->first;
    return offset < block->second && bytes <= block->second - offset;
  }

  // From p to the end of its block; 0: in none.
  size_t bytes_behind(const void* p) const {
    const auto address = reinterpret_cast<uintptr_t>(p);
    auto block = blocks_.upper_bound(address);
    if (block == blocks_.begin()) return 0;
    --block;
    const size_t offset = address - block->first;
    return offset < block->second ? block->second - offset : 0;
  }

  size_t live_bytes() const { return live_bytes_; }

 private:
  std::map<uintptr_t, size_t> blocks_;
  size_t live_bytes_ = 0;
};

struct Device {
  std::recursive_mutex mutex;
  MemoryBlocks memory, pinned;
  std::map<cudaStream_t, std::shared_ptr<Stream>> streams;  // nullptr: the default stream
  std::map<cudaEvent_t, std::unique_ptr<CUevent_st>> events;
  std::map<const void*, int> dynamic_smem;  // what cudaFuncSetAttribute allowed a kernel
  cudaError_t failure = cudaSuccess;        // sticky
  std::string failure_text;
};

// Never destroyed: other static objects may free device memory when the program ends.
inline Device& device() {
  static Device* device = [] {
    auto* made = new Device;
    made->streams[nullptr] = std::make_shared<Stream>();
    return made;
  }();
  return *device;
}

using Lock = std::lock_guard<std::recursive_mutex>;

inline cudaError_t& last_error() {
  static thread_local cudaError_t error = cudaSuccess;
  return error;
}

// What a call returns: the sticky failure before anything else. cudaGetLastError tells it once more, also
// cudaErrorNotReady, as the real runtime does.
inline cudaError_t answer(cudaError_t error) {
  if (device().failure != cudaSuccess) error = device().failure;
  if (error != cudaSuccess) last_error() = error;
  return error;
}

// The first failure stays until clear_failure().
inline void set_failure(cudaError_t error, const std::string& text) {
  Device& state = device();
  if (state.failure != cudaSuccess) return;
  state.failure = error;
  state.failure_text = text;
}

inline void clear_failure() {
  const Lock lock(device().mutex);
  device().failure = cudaSuccess;
  device().failure_text.clear();
  last_error() = cudaSuccess;
}

inline size_t live_device_bytes() {
  const Lock lock(device().mutex);
  return device().memory.live_bytes();
}

inline size_t live_pinned_bytes() {
  const Lock lock(device().mutex);
  return device().pinned.live_bytes();
}

inline size_t live_streams() {
  const Lock lock(device().mutex);
  return device().streams.size() - 1;
}

inline size_t live_events() {
  const Lock lock(device().mutex);
  return device().events.size();
}

}  // namespace poc::emulator
