// What this CPU can do at most, measured: fused multiply-adds that stay in registers, and reading memory.
#pragma once
#include <cstdint>
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

// GB/s of reading `memory` once, each thread its share.
inline double read_rate(int threads, const std::vector<uint64_t>& memory) {
  const auto* data = reinterpret_cast<const Words*>(memory.data());
  const size_t share = memory.size() * sizeof(uint64_t) / sizeof(Words) / static_cast<size_t>(threads) & ~size_t{7};
  const double time = on_threads(threads, [&](int thread) {
    typedef uint64_t Loose __attribute__((vector_size(kWidth * 4), aligned(8)));
    const auto* from = reinterpret_cast<const Loose*>(data + static_cast<size_t>(thread) * share);
    Words sums[8] = {};
    for (size_t i = 0; i < share; i += 8) {
#pragma GCC unroll 8
      for (size_t j = 0; j < 8; ++j) sums[j] += from[i + j];
    }
    for (const Words& sum : sums) keep(sum);
  });
  return static_cast<double>(share) * threads * sizeof(Words) / time / 1e9;
}

}  // namespace bench
