// limits THREADS: prints the measured limits of this CPU on so many threads as JSON; the best of some tries each.
#include "limits.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  std::vector<uint64_t> memory(size_t{64} << 20);  // 512 MiB, well over any cache
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = i * 0x9e3779b97f4a7c15ull;
  double fma = 0, read = 0;
  for (int i = 0; i < 5; ++i) {
    fma = std::max(fma, bench::fma_peak(threads));
    read = std::max(read, bench::read_rate(threads, memory));
  }
  printf("{\"threads\": %d, \"fmaGflops\": %.1f, \"readGBs\": %.2f}\n", threads, fma, read);
}
