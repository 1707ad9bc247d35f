// What the emulator tells AddressSanitizer and ThreadSanitizer; nothing in plain builds.
// ThreadSanitizer sees every CUDA thread as a thread of its own, ordered by barriers and __syncwarp only.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
}
#define POC_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define POC_NO_TSAN
#endif

namespace poc::emulator {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
inline void poison(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void unpoison(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
inline bool is_poisoned(void* p, size_t bytes) { return __asan_region_is_poisoned(p, bytes) != nullptr; }
#else
inline constexpr bool kAddressSanitizer = false;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
inline bool is_poisoned(void*, size_t) { return false; }
#endif

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
// The emulator's own state is touched by all CUDA threads without a lock: hidden from ThreadSanitizer.
// (Ignored reads and ignored writes share one counter there; one call hides both.)
struct Hidden {
  Hidden() { AnnotateIgnoreReadsBegin("", 0); }
  ~Hidden() { AnnotateIgnoreReadsEnd("", 0); }
  Hidden(const Hidden&) = delete;
};
// Called while hidden: an access that belongs to the kernel.
inline void saw_read(const void* p, size_t bytes) {
  AnnotateIgnoreReadsEnd("", 0);
  __tsan_read_range(const_cast<void*>(p), bytes);
  AnnotateIgnoreReadsBegin("", 0);
}
inline void saw_write(void* p, size_t bytes) {
  AnnotateIgnoreReadsEnd("", 0);
  __tsan_write_range(p, bytes);
  AnnotateIgnoreReadsBegin("", 0);
}
// All that happened before release(token) happens before what follows acquire(token).
inline void release(void* token) { __tsan_release(token); }
inline void acquire(void* token) { __tsan_acquire(token); }
#else
inline constexpr bool kThreadSanitizer = false;
struct Hidden {
  Hidden() {}
  ~Hidden() {}
  Hidden(const Hidden&) = delete;
};
inline void saw_read(const void*, size_t) {}
inline void saw_write(void*, size_t) {}
inline void release(void*) {}
inline void acquire(void*) {}
#endif

}  // namespace poc::emulator
