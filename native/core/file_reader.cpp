#include "file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"

namespace poc {
namespace {

const struct timespec& changed_at(const struct stat& status) {
#ifdef __APPLE__
  return status.st_mtimespec;
#else
  return status.st_mtim;
#endif
}

}  // namespace

FileReader::FileReader(const std::string& path, size_t expected_bytes) : path_(path) {
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
  seconds_ = changed_at(status).tv_sec;
  nanoseconds_ = changed_at(status).tv_nsec;
  file_ = file;
}

FileReader::~FileReader() {
  if (file_ >= 0) close(file_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      size_(other.size_),
      seconds_(other.seconds_),
      nanoseconds_(other.nanoseconds_) {}

void FileReader::read(size_t offset, size_t bytes, void* out) const {
  constexpr size_t kMostAtOnce = size_t{1} << 30;  // some systems read no more than 2 GiB a call
  for (size_t done = 0; done < bytes;) {
    const ssize_t count = pread(file_, static_cast<char*>(out) + done, std::min(bytes - done, kMostAtOnce),
                                static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw wrong_value("MODEL_MALFORMED", path_, "readable", strerror(errno));
    if (count == 0)
      throw wrong_value("MODEL_MALFORMED", path_, "as it was when the model was loaded", "a file that ends early");
    done += static_cast<size_t>(count);
  }
  // Asked afterwards, so that a change during the read counts.
  struct stat status;
  if (fstat(file_, &status) != 0 || static_cast<size_t>(status.st_size) != size_ ||
      changed_at(status).tv_sec != seconds_ || changed_at(status).tv_nsec != nanoseconds_)
    throw wrong_value("MODEL_MALFORMED", path_, "as it was when the model was loaded", "a file that has changed");
}

}  // namespace poc
