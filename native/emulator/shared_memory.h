// Dynamic shared memory of the running block: NaN (0xFF) until written, with a gap after every carved array.
// AddressSanitizer catches accesses to the gaps; plain builds find writes to them when the block ends.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

#include "block.h"

namespace poc::emulator {

inline constexpr uint32_t kSharedGap = 64;
inline constexpr size_t kSharedSlack = 8192;  // room for the gaps
inline constexpr size_t kSharedGuard = 4096;  // on both sides, keeps the base aligned
inline constexpr size_t kSharedFront = 256;   // so much of the front guard is checked

inline void prepare_shared(SharedWindow& shared, size_t bytes) {
  shared.arrays.clear();
  shared.requested = bytes;
  shared.capacity = bytes ? bytes + kSharedSlack : 0;
  if (bytes == 0) return;
  const size_t needed = (shared.capacity + 2 * kSharedGuard + kPage - 1) / kPage * kPage;
  if (needed > shared.memory_bytes) {
    unpoison(shared.memory, shared.memory_bytes);
    free(shared.memory);
    shared.memory = static_cast<char*>(aligned_alloc(kPage, needed));
    if (!shared.memory) throw std::bad_alloc();
    shared.memory_bytes = needed;
    shared.base = shared.memory + kSharedGuard;
  }
  unpoison(shared.memory, shared.memory_bytes);
  memset(shared.base - kSharedFront, 0xFF, kSharedFront + shared.capacity);
  poison(shared.memory, shared.memory_bytes);
}

// Places the next array. `offset` counts as on the device, `shift` is how much further it lies here.
inline void* carve_shared(uint32_t& offset, uint32_t& shift, uint64_t bytes, uint32_t align, const Location& where) {
  Hidden hidden;
  SharedWindow& shared = running_block->shared;
  if (align == 0 || (align & (align - 1)) || align > 1024) fail(format("carve: alignment %u", align), where);
  offset = (offset + align - 1) / align * align;
  if (offset + bytes > shared.requested)
    fail(format("carve: %llu bytes at %u exceed the %zu bytes of the launch", static_cast<unsigned long long>(bytes),
                offset, shared.requested),
         where);
  const uint32_t begin = (offset + shift + align - 1) / align * align;
  const SharedWindow::Array array{begin, static_cast<uint32_t>(bytes)};
  if (begin + bytes + kSharedGap > shared.capacity) fail("carve: too many arrays", where);
  if (std::find(shared.arrays.begin(), shared.arrays.end(), array) == shared.arrays.end()) {
    shared.arrays.push_back(array);
    unpoison(shared.base + begin, bytes);
  }
  offset += array.bytes;
  shift = begin + array.bytes + kSharedGap - offset;
  return shared.base + begin;
}

inline uint32_t shared_offset(const void* p, const Location& where) {
  const SharedWindow& shared = running_block->shared;
  const ptrdiff_t offset = shared.base ? static_cast<const char*>(p) - shared.base : -1;
  if (offset < 0 || static_cast<size_t>(offset) > shared.capacity) fail("the address is not in shared memory", where);
  return static_cast<uint32_t>(offset);
}

// The bytes of shared memory at an offset; they have to lie in one of the carved arrays.
inline char* shared_at(uint32_t offset, uint32_t bytes, uint32_t align, const char* operation, const Location& where) {
  SharedWindow& shared = running_block->shared;
  if (offset % align) fail(format("%s: shared address %u is not aligned to %u bytes", operation, offset, align), where);
  for (const SharedWindow::Array& array : shared.arrays)
    if (offset >= array.offset && uint64_t{offset} + bytes <= uint64_t{array.offset} + array.bytes)
      return shared.base + offset;
  fail(format("%s: shared address %u is outside every array", operation, offset), where);
}

// "" or what was written outside the arrays. AddressSanitizer has said so already, where it runs.
inline std::string check_gaps(SharedWindow& shared) {
  if (kAddressSanitizer || shared.requested == 0) return "";
  const auto untouched = [](const char* begin, const char* end) {
    return begin >= end || (*begin == char(0xFF) && !memcmp(begin, begin + 1, static_cast<size_t>(end - begin) - 1));
  };
  if (!untouched(shared.base - kSharedFront, shared.base)) return "write before the start of shared memory";
  std::sort(shared.arrays.begin(), shared.arrays.end(),
            [](const SharedWindow::Array& a, const SharedWindow::Array& b) { return a.offset < b.offset; });
  uint32_t end = 0;
  for (size_t i = 0; i <= shared.arrays.size(); ++i) {
    const bool last = i == shared.arrays.size();
    const char* next = shared.base + (last ? shared.capacity : shared.arrays[i].offset);
    if (!untouched(shared.base + end, next)) {
      const char* p = shared.base + end;
      while (*p == char(0xFF)) ++p;
      return format("write %zu bytes past the end of shared array %zu", static_cast<size_t>(p - shared.base) - end + 1,
                    i ? i - 1 : 0);
    }
    if (!last) end = std::max(end, shared.arrays[i].offset + shared.arrays[i].bytes);
  }
  return "";
}

}  // namespace poc::emulator
