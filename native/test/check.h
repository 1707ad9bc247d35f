// Checks for the native tests. A failed one says where and goes on; main() returns result(). The values
// that tests draw come from integers by exact steps, so that every machine draws the same ones.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "../core/dtype.h"
#include "../core/error.h"

// CHECK(condition, note...): the notes are streamed together and only printed on failure.
#define CHECK(condition, ...)                                                                          \
  do {                                                                                                 \
    ++poc::test::num_checks();                                                                         \
    if (!(condition)) poc::test::failed(__FILE__, __LINE__, #condition, poc::test::text(__VA_ARGS__)); \
  } while (0)

#define RUN(function) poc::test::run(#function, function)

namespace poc::test {

// Atomic: some tests check from several threads.
inline std::atomic<size_t>& num_checks() {
  static std::atomic<size_t> count{0};
  return count;
}

inline std::atomic<size_t>& num_failures() {
  static std::atomic<size_t> count{0};
  return count;
}

template <class... T>
std::string text(const T&... parts) {
  std::ostringstream out;
  out.precision(9);
  (void)(out << ... << parts);
  return out.str();
}

inline void failed(const char* file, int line, const char* condition, const std::string& note) {
  if (++num_failures() <= 20)
    fprintf(stderr, "%s:%d: CHECK(%s) failed%s%s\n", file, line, condition, note.empty() ? "" : ": ", note.c_str());
}

template <class F>
void run(const char* name, F function) {
  const auto start = std::chrono::steady_clock::now();
  const size_t failures = num_failures();
  try {
    function();
  } catch (const std::exception& error) {
    failed(name, 0, "no exception", error.what());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  printf("%s %s (%.2f s)\n", num_failures() == failures ? "ok  " : "FAIL", name, seconds.count());
  fflush(stdout);
}

// A test that checked nothing has failed.
inline int result() {
  printf("%zu checks, %zu failed\n", num_checks().load(), num_failures().load());
  return num_failures() == 0 && num_checks() > 0 ? 0 : 1;
}

// POC_TEST_QUICK=1: smaller sets, for emulators.
inline bool quick() {
  const char* value = getenv("POC_TEST_QUICK");
  return value && *value && strcmp(value, "0") != 0;
}

// "CODE where" of the Error that f throws; "" when it throws none.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.where.empty() ? error.code : error.code + (" " + error.where);
  }
  return "";
}

// Same bits, or both NaN.
inline bool same(float a, float b) { return float_bits(a) == float_bits(b) || (a != a && b != b); }

struct Random {  // splitmix64
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull) {}

  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>((static_cast<unsigned __int128>(next()) * n) >> 64); }
  // Uniform in [0, 1), a multiple of 2^-24.
  float unit() { return static_cast<float>(next() >> 40) * 0x1p-24f; }
  // Bell-shaped in [-2, 2), deviation 0.58, a multiple of 2^-16: every step is exact.
  float bell() {
    const uint64_t z = next();
    const int64_t sum = static_cast<int64_t>((z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48));
    return static_cast<float>(sum - 0x20000) * 0x1p-16f;
  }
  std::vector<float> bells(size_t n, float scale = 1, float mean = 0) {
    std::vector<float> out(n);
    for (float& x : out) x = bell() * scale + mean;
    return out;
  }
};

// FNV-1a, 64 bits.
inline uint64_t digest(const void* data, size_t bytes, uint64_t start = 0xcbf29ce484222325ull) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) start = (start ^ p[i]) * 0x100000001b3ull;
  return start;
}

}  // namespace poc::test
