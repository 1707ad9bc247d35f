// Another library in the process may have changed rounding or told the processor to flush subnormals
// (anything linked with -ffast-math does), and threads inherit that. Results must not depend on it.
#pragma once
#include <cfenv>
#include <cstdint>

namespace poc {

// To nearest, subnormals kept, no traps, while the object lives; then the thread's own setting again.
class FloatEnvironment {
 public:
#if defined(__aarch64__)
  // The whole control register: glibc's fesetenv leaves the bit alone that makes numbers of binary16's
  // infinities.
  FloatEnvironment() {
    std::fegetenv(&saved_);
    asm volatile("mrs %0, fpcr" : "=r"(control_) : : "memory");
    std::fesetenv(FE_DFL_ENV);
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}) : "memory");
  }
  ~FloatEnvironment() {
    std::fesetenv(&saved_);
    asm volatile("msr fpcr, %0" : : "r"(control_) : "memory");
  }
#else
  FloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatEnvironment() { std::fesetenv(&saved_); }
#endif
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
#if defined(__aarch64__)
  uint64_t control_;
#endif
};

}  // namespace poc
