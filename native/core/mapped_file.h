// A read-only mapping of a whole file: of weight files while they are packed, dropped afterwards, so that a file
// that changes later cannot touch a running model; of a packed file (packed_file.h) as long as its model lives.
#pragma once
#include <atomic>
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

  // Returns when the range is in memory (where the system can say so: Linux 5.14 and later; elsewhere reading has
  // begun). Throws MODEL_MALFORMED where the file has become shorter, Cancelled once the flag is set.
  void read(size_t offset, size_t bytes, const std::atomic<bool>& cancelled) const;
  // Lets the range's memory go; it is read again where it is looked at again.
  void let_go(size_t offset, size_t bytes) const;

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace poc
