#include "logit_loops.h"

#include "elementary.h"
#include "philox.h"

namespace poc {
namespace {

#define POC_INLINE static inline __attribute__((always_inline))

POC_INLINE void divide(const float* logits, size_t count, double temperature, double* quotients) {
  for (size_t i = 0; i < count; ++i) quotients[i] = static_cast<double>(logits[i]) / temperature;
}

POC_INLINE void first_words(const uint32_t key[2], uint32_t first_id, uint32_t position, size_t count,
                            uint32_t* words) {
  const uint32_t k0 = key[0], k1 = key[1];
  for (size_t i = 0; i < count; ++i)
    words[i] = philox_words(first_id + static_cast<uint32_t>(i), position, 0, 0, k0, k1).w0;
}

POC_INLINE void exponentials(const double* x, size_t count, double* weights) {
  for (size_t i = 0; i < count; ++i) weights[i] = x[i] < -700.0 ? -700.0 : x[i];
  for (size_t i = 0; i < count; ++i) weights[i] = exp64_in_range(weights[i]);
  for (size_t i = 0; i < count; ++i) weights[i] = x[i] < -700.0 ? 0.0 : weights[i];
}

// One set of functions, each the loop above with all that it calls inlined.
#define POC_LOOPS(name, ...)                                                                              \
  namespace name {                                                                                        \
  __VA_ARGS__ void divide(const float* logits, size_t count, double temperature, double* quotients) {     \
    poc::divide(logits, count, temperature, quotients);                                                   \
  }                                                                                                       \
  __VA_ARGS__ void first_words(const uint32_t key[2], uint32_t first_id, uint32_t position, size_t count, \
                               uint32_t* words) {                                                         \
    poc::first_words(key, first_id, position, count, words);                                              \
  }                                                                                                       \
  __VA_ARGS__ void exponentials(const double* x, size_t count, double* weights) {                         \
    poc::exponentials(x, count, weights);                                                                 \
  }                                                                                                       \
  }

POC_LOOPS(plain, __attribute__((flatten)))
#if defined(__x86_64__)
POC_LOOPS(avx2, __attribute__((target("avx2,fma"), flatten)))
POC_LOOPS(avx512, __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"), flatten)))
#endif

std::vector<LogitLoops> available() {
  std::vector<LogitLoops> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512) found.push_back({"avx512", avx512::divide, avx512::first_words, avx512::exponentials});
  if (avx2) found.push_back({"avx2", avx2::divide, avx2::first_words, avx2::exponentials});
#endif
  found.push_back({"plain", plain::divide, plain::first_words, plain::exponentials});
  return found;
}

}  // namespace

const std::vector<LogitLoops>& logit_loops() {
  static const std::vector<LogitLoops> loops = available();
  return loops;
}

}  // namespace poc
