// A file that is read piece by piece while it stays open: for weights that each pass reads again. Unlike a
// mapping, a file that shrinks or is written to meanwhile is an error here, not a signal or other weights.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace poc {

class FileReader {
 public:
  // Throws FILE_NOT_FOUND, or MODEL_MALFORMED when the size is not `expected_bytes`.
  FileReader(const std::string& path, size_t expected_bytes);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader(const FileReader&) = delete;

  // Reads all of `bytes` from `offset` on; throws MODEL_MALFORMED when the file ends before that, or is not as it
  // was when it was opened. From any number of threads at once.
  void read(size_t offset, size_t bytes, void* out) const;
  int descriptor() const { return file_; }

 private:
  std::string path_;
  int file_ = -1;
  size_t size_ = 0;
  int64_t seconds_ = 0, nanoseconds_ = 0;  // of the last change
};

}  // namespace poc
