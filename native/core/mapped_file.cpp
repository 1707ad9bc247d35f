#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"

namespace poc {

MappedFile::MappedFile(const std::string& path, size_t expected_bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw wrong_value("FILE_NOT_FOUND", path, "a readable file", strerror(errno));
  struct stat status;
  const bool known = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  size_ = known ? static_cast<size_t>(status.st_size) : 0;
  if (!known || size_ != expected_bytes) {
    close(file);
    throw wrong_value("MODEL_MALFORMED", path, "a file of " + std::to_string(expected_bytes) + " bytes",
                      known ? std::to_string(size_) + " bytes" : "no regular file");
  }
  if (size_ > 0) {
    void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    const int reason = errno;
    close(file);
    if (data == MAP_FAILED) throw wrong_value("OUT_OF_MEMORY", path, "mappable", strerror(reason));
    data_ = data;
    madvise(data_, size_, MADV_WILLNEED);
  } else {
    close(file);
  }
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

}  // namespace poc
