// limits THREADS: prints the measured limits of this CPU on so many threads as JSON; the best of some tries each.
#include "limits.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const bench::LargeMemory memory;
  double fma = 0, read = 0;
  for (int i = 0; i < 5; ++i) {
    fma = std::max(fma, bench::fma_peak(threads));
    read = std::max(read, memory.read_rate(threads));
  }
  printf("{\"threads\": %d, \"fmaGflops\": %.1f, \"readGBs\": %.2f}\n", threads, fma, read);
}
