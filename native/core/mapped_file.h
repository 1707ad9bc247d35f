// A read-only mapping of a whole file. Used while weights are packed and dropped afterwards, so that a
// file that changes later cannot touch a running model.
#pragma once
#include <cstddef>
#include <string>

namespace poc {

class MappedFile {
 public:
  // Throws FILE_NOT_FOUND, or MODEL_MALFORMED when the size is not `expected_bytes`.
  MappedFile(const std::string& path, size_t expected_bytes);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  const char* data() const { return static_cast<const char*>(data_); }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace poc
