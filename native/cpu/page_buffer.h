// Memory straight from the system, zeroed, and given back to it when freed. An allocator may keep what is freed for
// later, and a budget for weights would not hold. In huge pages where there are some: weights are read faster
// from them.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <string>

#include "../core/error.h"
#include "../core/tensor.h"

namespace poc::cpu {

class PageBuffer : public Buffer {
 public:
  explicit PageBuffer(size_t bytes) : mapped_bytes_(bytes + kHugePage) {
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED)
      throw Error("OUT_OF_MEMORY", "Could not allocate " + std::to_string(bytes) + " bytes", "memory",
                  std::to_string(bytes) + " bytes", "none");
    data_ = static_cast<char*>(mapped_) + (kHugePage - reinterpret_cast<uintptr_t>(mapped_) % kHugePage);
#if defined(__linux__)
    // A wish: failing changes nothing. Whole pages only, so that no more memory is taken than asked for.
    madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }
  ~PageBuffer() override { munmap(mapped_, mapped_bytes_); }
  PageBuffer(const PageBuffer&) = delete;
  void* data() override { return data_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  size_t mapped_bytes_;
  void *mapped_, *data_;
};

}  // namespace poc::cpu
