#include "mapped_file.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"
#include "file_reader.h"

namespace poc {

MappedFile::MappedFile(const std::string& path, size_t expected_bytes) {
  const FileReader file(path, expected_bytes);
  size_ = expected_bytes;
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) throw wrong_value("OUT_OF_MEMORY", path, "mappable", strerror(errno));
  data_ = data;
  madvise(data_, size_, MADV_WILLNEED);
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

}  // namespace poc
