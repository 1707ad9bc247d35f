// Memory for weights, straight from the system and given back to it when freed. An allocator may keep what is freed
// for later, and a budget for weights would not hold.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <string>

#include "../core/error.h"
#include "../core/tensor.h"

namespace poc::cpu {

class PageBuffer : public Buffer {
 public:
  explicit PageBuffer(size_t bytes) : bytes_(std::max<size_t>(bytes, 1)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED)
      throw Error("OUT_OF_MEMORY", "Could not allocate " + std::to_string(bytes) + " bytes", "memory",
                  std::to_string(bytes) + " bytes", "none");
  }
  ~PageBuffer() override { munmap(data_, bytes_); }
  PageBuffer(const PageBuffer&) = delete;
  void* data() override { return data_; }

 private:
  void* data_;
  size_t bytes_;
};

}  // namespace poc::cpu
