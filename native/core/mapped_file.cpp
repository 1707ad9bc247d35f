#include "mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"
#include "file_reader.h"

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22  // of headers older than the kernel
#endif

namespace poc {
namespace {

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// Advice for the pages that the range touches.
int advise(const char* data, size_t offset, size_t bytes, int advice) {
  const size_t begin = offset / page_bytes() * page_bytes();
  return bytes > 0 ? madvise(const_cast<char*>(data) + begin, offset + bytes - begin, advice) : 0;
}

}  // namespace

MappedFile::MappedFile(const std::string& path, size_t expected_bytes) : path_(path) {
  const FileReader file(path, expected_bytes);
  size_ = expected_bytes;
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) throw wrong_value("OUT_OF_MEMORY", path, "mappable", strerror(errno));
  data_ = data;
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

void MappedFile::read(size_t offset, size_t bytes, const std::atomic<bool>& cancelled) const {
  constexpr size_t kAsked = size_t{1} << 20;  // Linux starts reading only the beginning of a larger range
  for (size_t done = 0; done < bytes; done += kAsked)
    advise(data(), offset + done, std::min(kAsked, bytes - done), MADV_WILLNEED);
#ifdef MADV_POPULATE_READ
  constexpr size_t kPiece = size_t{4} << 20;  // between looks at the flag
  for (size_t done = 0; done < bytes; done += kPiece) {
    if (cancelled) throw Cancelled();
    const int failed = advise(data(), offset + done, std::min(kPiece, bytes - done), MADV_POPULATE_READ);
    // Unlike a look at the memory, which would be a signal.
    if (failed && (errno == EFAULT || errno == EIO))
      throw wrong_value("MODEL_MALFORMED", path_, "as it was when the model was loaded", "a file that cannot be read");
    if (failed) return;  // an older kernel
  }
#else
  if (cancelled) throw Cancelled();
#endif
}

void MappedFile::let_go(size_t offset, size_t bytes) const { advise(data(), offset, bytes, MADV_DONTNEED); }

}  // namespace poc
