// Another library in the process may have changed rounding or told the processor to flush subnormals
// (anything linked with -ffast-math does), and threads inherit that. Results must not depend on it.
#pragma once
#include <cfenv>

namespace poc {

// To nearest, subnormals kept, no traps, while the object lives; then the thread's own setting again.
class FloatEnvironment {
 public:
  FloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatEnvironment() { std::fesetenv(&saved_); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace poc
