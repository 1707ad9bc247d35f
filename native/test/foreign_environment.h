// What another library may have done to the thread's floating-point control register.
#pragma once
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <cfenv>
#include <cstdint>

namespace poc::test {

// Rounding upward and all that the processor can do to subnormals, NaNs and binary16, while the object lives.
class ForeignEnvironment {
 public:
  ForeignEnvironment() {
    std::fesetround(FE_UPWARD);
    write(read() | kFlags);
  }
  ~ForeignEnvironment() {
    write(read() & ~kFlags);
    std::fesetround(FE_TONEAREST);
  }
  ForeignEnvironment(const ForeignEnvironment&) = delete;
  ForeignEnvironment& operator=(const ForeignEnvironment&) = delete;

  bool intact() const { return std::fegetround() == FE_UPWARD && (read() & kFlags) == kFlags; }

 private:
#if defined(__SSE2__)
  static constexpr uint32_t kFlags = 0x8040;  // flush to zero, denormals are zero
  static uint32_t read() { return _mm_getcsr(); }
  static void write(uint32_t control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  static constexpr uint64_t kFlags = 0x7000000;  // alternative half precision, default NaN, flush to zero
  static uint64_t read() {
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
    return control;
  }
  static void write(uint64_t control) { asm volatile("msr fpcr, %0" : : "r"(control) : "memory"); }
#else
  static constexpr uint32_t kFlags = 0;
  static uint32_t read() { return 0; }
  static void write(uint32_t) {}
#endif
};

}  // namespace poc::test
