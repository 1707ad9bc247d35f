#include "memory.h"

namespace poc::cuda {
namespace {

// Rounded up to a power of two, or above 1 MiB to an eighth of one, so that runs of about one length share blocks.
size_t rounded(size_t bytes) {
  size_t power = 512;
  while (power < bytes) power *= 2;
  if (bytes <= (size_t{1} << 20)) return power;
  const size_t step = power / 16;  // `power` is up to twice the size
  return (bytes + step - 1) / step * step;
}

}  // namespace

void* DevicePool::take_block(size_t bytes, const Stream* stream) {
  const size_t size = rounded(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Block>& kept = kept_[size];
  Block block{nullptr, nullptr};
  if (!kept.empty()) {
    block = std::move(kept.back());
    kept.pop_back();
    try {
      if (stream) block.freed->hold_back(*stream);
    } catch (...) {
      kept.push_back(std::move(block));
      throw;
    }
  } else {
    cudaError_t error = cudaMalloc(&block.data, size);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      trim();
      error = cudaMalloc(&block.data, size);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw Error("OUT_OF_MEMORY", "Could not allocate " + std::to_string(size) + " bytes on the device",
                  "device memory", std::to_string(size) + " bytes", "none");
    }
    check(error, "allocate memory");
  }
  taken_.emplace(block.data, std::make_pair(size, std::move(block.freed)));
  return block.data;
}

void DevicePool::give_back(void* data) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = taken_.find(data);
  if (found == taken_.end()) return;
  const size_t size = found->second.first;
  Block block{data, std::move(found->second.second)};
  taken_.erase(found);
  try {
    if (!block.freed) block.freed = std::make_unique<Event>();
    block.freed->record(compute_);
    kept_[size].push_back(std::move(block));
  } catch (...) {  // a failed device: its memory is of no use any more
    cudaFree(data);
  }
}

// Caller holds the mutex, or nobody else is left. cudaFree waits for work that uses the memory.
void DevicePool::trim() noexcept {
  cudaStreamSynchronize(compute_.get());
  for (auto& [size, blocks] : kept_)
    for (const Block& block : blocks) cudaFree(block.data);
  kept_.clear();
}

size_t PinnedPool::class_of(size_t bytes) {
  size_t size = 4096;
  while (size < bytes) size *= 2;
  return size;
}

void* PinnedPool::take(size_t bytes) {
  const size_t size = class_of(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<void*>& kept = kept_[size];
  void* data = nullptr;
  if (!kept.empty()) {
    data = kept.back();
    kept.pop_back();
    return data;
  }
  check(cudaHostAlloc(&data, size, cudaHostAllocDefault), "allocate pinned memory");
  return data;
}

void PinnedPool::give_back(void* data, size_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  kept_[class_of(bytes)].push_back(data);
}

PinnedPool::~PinnedPool() {
  for (auto& [size, blocks] : kept_)
    for (void* data : blocks) cudaFreeHost(data);
}

}  // namespace poc::cuda
