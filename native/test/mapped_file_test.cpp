// A mapped file shows the file's bytes, and refuses what is missing, of another size, or no file.
#include "../core/mapped_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <utility>

#include "check.h"

using namespace poc;
using namespace poc::test;

namespace {

struct Directory {
  std::string path;
  Directory() {
    const char* parent = getenv("TMPDIR");
    std::string name = std::string(parent ? parent : "/tmp") + "/poc-mapped-XXXXXX";
    if (mkdtemp(&name[0])) path = name;
  }
  ~Directory() {
    for (const char* file : {"/file", "/empty"}) unlink((path + file).c_str());
    rmdir(path.c_str());
  }
  std::string write(const char* file, const std::string& bytes) const {
    std::ofstream(path + file, std::ios::binary) << bytes;
    return path + file;
  }
};

std::string error_of_mapping(const std::string& path, size_t bytes) {
  return error_of([&] { MappedFile file(path, bytes); });
}

// The number that the next opened file would get: unchanged when nothing was left open.
int next_descriptor() {
  const int file = open("/dev/null", O_RDONLY);
  close(file);
  return file;
}

void a_mapping_shows_the_files_bytes() {
  const Directory directory;
  CHECK(!directory.path.empty());
  Random random(61);
  for (const size_t size : {1, 4095, 4096, 4097, 100000}) {
    std::string bytes;
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(random.next()));
    const std::string path = directory.write("/file", bytes);
    MappedFile file(path, size);
    CHECK(file.size() == size && memcmp(file.data(), bytes.data(), size) == 0, size);
    unlink(path.c_str());  // what is mapped stays
    MappedFile moved(std::move(file));
    CHECK(moved.size() == size && memcmp(moved.data(), bytes.data(), size) == 0, size);
    CHECK(file.data() == nullptr && file.size() == 0, size);
  }
  MappedFile empty(directory.write("/empty", ""), 0);
  CHECK(empty.size() == 0);
}

void what_is_missing_or_of_another_size_is_refused() {
  const Directory directory;
  const std::string path = directory.write("/file", "twelve bytes"), missing = directory.path + "/missing";
  const int before = next_descriptor();
  CHECK(error_of_mapping(missing, 12) == "FILE_NOT_FOUND " + missing);
  CHECK(error_of_mapping(missing, 0) == "FILE_NOT_FOUND " + missing);
  CHECK(error_of_mapping("", 0) == "FILE_NOT_FOUND");
  CHECK(error_of_mapping(path + "/file", 12) == "FILE_NOT_FOUND " + path + "/file");
  for (const size_t size : {size_t{0}, size_t{11}, size_t{13}, size_t{4096}, ~size_t{0}})
    CHECK(error_of_mapping(path, size) == "MODEL_MALFORMED " + path, size);
  for (const size_t size : {0, 1, 4096})
    CHECK(error_of_mapping(directory.path, size) == "MODEL_MALFORMED " + directory.path, size);
  CHECK(error_of_mapping("/dev/null", 0) == "MODEL_MALFORMED /dev/null");
  CHECK(error_of_mapping(path, 12).empty());
  CHECK(next_descriptor() == before);
}

}  // namespace

int main() {
  RUN(a_mapping_shows_the_files_bytes);
  RUN(what_is_missing_or_of_another_size_is_refused);
  return result();
}
