// Device and pinned memory that is kept for the next use: taking and giving back costs no call to the driver.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"

namespace poc::cuda {

// Device memory is ordered by the compute stream: a block may be given back while queued work still uses it,
// since whoever takes it next queues its work behind. For another stream take_for() makes that so.
class DevicePool {
 public:
  explicit DevicePool(const Stream& compute) : compute_(compute) {}
  ~DevicePool() { trim(); }
  DevicePool(const DevicePool&) = delete;

  // Throws OUT_OF_MEMORY when the device has no more, after freeing all that is kept.
  void* take(size_t bytes) { return take_block(bytes, nullptr); }
  void* take_for(const Stream& stream, size_t bytes) { return take_block(bytes, &stream); }
  void give_back(void* data) noexcept;

 private:
  struct Block {
    void* data;
    std::unique_ptr<Event> freed;  // recorded when it was given back; null before that
  };
  void* take_block(size_t bytes, const Stream* stream);
  void trim() noexcept;

  const Stream& compute_;
  std::mutex mutex_;
  std::map<size_t, std::vector<Block>> kept_;  // by size
  std::map<void*, std::pair<size_t, std::unique_ptr<Event>>> taken_;
};

// Pinned host memory. Given back only when no copy uses it any more.
class PinnedPool {
 public:
  ~PinnedPool();
  void* take(size_t bytes);
  void give_back(void* data, size_t bytes) noexcept;

 private:
  static size_t class_of(size_t bytes);
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> kept_;
};

}  // namespace poc::cuda
