// What this CPU can do at most, measured: fused multiply-adds that stay in registers, and reading memory.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "sample.h"

namespace bench {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
typedef float Vector __attribute__((vector_size(kWidth * 4)));
typedef uint64_t Words __attribute__((vector_size(kWidth * 4)));

// Keeps a value that nothing else reads.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

// Calls work(thread) on each of `threads` threads at once; seconds until the last one is done.
template <class F>
double on_threads(int threads, F work) {
  const auto from = Clock::now();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back([&work, i] { work(i); });
  work(0);
  for (std::thread& other : others) other.join();
  return seconds_since(from);
}

// GFLOP/s of independent multiply-adds in registers. Compiled with contraction, see CMakeLists.txt.
inline double fma_peak(int threads) {
  constexpr int kChains = 12;
  constexpr long kSteps = 4000000;
  const double time = on_threads(threads, [](int) {
    Vector chains[kChains], a = {}, b = {};
    for (int i = 0; i < kWidth; ++i) a[i] = 0.999f, b[i] = 1e-3f;
    for (int c = 0; c < kChains; ++c) chains[c] = a * static_cast<float>(c + 1);
    for (long step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * a + b;
    }
    for (const Vector& chain : chains) keep(chain);
  });
  return 2.0 * kWidth * kChains * static_cast<double>(kSteps) * threads / time / 1e9;
}

// Memory well over any cache, of large pages where there are some: with small ones, looking pages up is the limit.
class LargeMemory {
 public:
  LargeMemory() : data_(static_cast<char*>(std::aligned_alloc(kPage, kBytes))) {
    if (!data_) std::abort();
#ifdef MADV_HUGEPAGE
    madvise(data_, kBytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < kBytes; ++i) data_[i] = static_cast<char>(i * 0x9e3779b1u >> 24);
  }
  ~LargeMemory() { std::free(data_); }
  LargeMemory(const LargeMemory&) = delete;

  // GB/s of reading it once, each thread its share.
  double read_rate(int threads) const {
    const size_t share = kBytes / sizeof(Words) / static_cast<size_t>(threads) & ~size_t{7};
    const double time = on_threads(threads, [&](int thread) {
      const Words* from = reinterpret_cast<const Words*>(data_) + static_cast<size_t>(thread) * share;
      Words sums[8] = {};
      for (size_t i = 0; i < share; i += 8) {
#pragma GCC unroll 8
        for (size_t j = 0; j < 8; ++j) sums[j] += from[i + j];
      }
      for (const Words& sum : sums) keep(sum);
    });
    return static_cast<double>(share) * threads * sizeof(Words) / time / 1e9;
  }

 private:
  static constexpr size_t kPage = size_t{2} << 20, kBytes = size_t{512} << 20;
  char* data_;
};

}  // namespace bench
