// One timed sample, on a machine that others may use too.
#pragma once
#include <sys/resource.h>

#include <chrono>
#include <thread>

namespace bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

// CPU seconds of this process, all threads.
inline double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Sample {
  double seconds = 0;
  double share = 0;  // of `threads` CPUs that this process had meanwhile
};

// Times work(), again while others had too much of its CPUs; the try that had most of them counts. Threads of a
// library that ran before may go on spinning for a while, so each try waits first, and warms up.
template <class F>
Sample sample(int threads, F work) {
  constexpr int kTries = 6;
  constexpr double kEnough = 0.85;
  static double patience = 40;  // seconds that a program may lose to samples that did not count
  Sample best;
  Clock::time_point last;
  for (int i = 0; i < kTries && best.share < kEnough; ++i) {
    if (i > 0 && (patience -= seconds_since(last)) < 0) break;
    last = Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    work();
    const double cpu = cpu_seconds();
    const auto from = Clock::now();
    work();
    const double seconds = seconds_since(from), share = (cpu_seconds() - cpu) / seconds / threads;
    if (share > best.share) best = {seconds, share};
  }
  return best;
}

}  // namespace bench
