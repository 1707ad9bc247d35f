// The thread pool: every task once, cancellation, exceptions, several callers and nesting.
#include "../cpu/thread_pool.h"

#include <stdexcept>

#include "check.h"

using namespace poc;
using namespace poc::test;
using cpu::ThreadPool;

namespace {

const std::atomic<bool> never{false};
const size_t kSizes[] = {1, 2, 7};

size_t rounds(size_t n) { return quick() ? n / 20 + 1 : n; }

void every_task_runs_once() {
  for (const size_t threads : kSizes) {
    ThreadPool pool(threads);
    CHECK(pool.num_threads() == threads);
    for (const size_t count : {0, 1, 2, 3, 100, 5000}) {
      std::vector<std::atomic<int>> runs(count);
      pool.parallel_for(count, never, [&](size_t i) { ++runs[i]; });
      for (size_t i = 0; i < count; ++i) CHECK(runs[i] == 1, threads, " threads, task ", i);
    }
  }
  ThreadPool none(0);  // the caller's own thread is always there
  CHECK(none.num_threads() == 1);
}

// What tasks wrote is seen after the call, without atomics: the call orders memory.
void results_are_visible_and_calls_follow_each_other() {
  ThreadPool pool(4);
  std::vector<size_t> values(64, 0);
  for (size_t round = 0; round < rounds(3000); ++round) {
    pool.parallel_for(values.size(), never, [&](size_t i) { values[i] += i; });
    const size_t i = round % values.size();
    CHECK(values[i] == i * (round + 1), round);
  }
}

// Two tasks that wait for each other end only when two threads take part.
void threads_work_at_once() {
  ThreadPool pool(2);
  for (size_t round = 0; round < rounds(200); ++round) {
    std::atomic<int> inside{0};
    pool.parallel_for(2, never, [&](size_t) {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
    CHECK(inside == 2);
  }
}

void cancelling_drops_what_has_not_begun() {
  for (const size_t threads : kSizes) {
    ThreadPool pool(threads);
    std::atomic<bool> cancelled{true};
    std::atomic<size_t> ran{0};
    CHECK(error_of([&] { pool.parallel_for(50, cancelled, [&](size_t) { ++ran; }); }) == "ABORTED");
    CHECK(ran == 0);
    cancelled = false;
    std::atomic<size_t> inside{0};
    CHECK(error_of([&] {
            pool.parallel_for(100000, cancelled, [&](size_t i) {
              ++inside;
              if (i == 10) cancelled = true;
              while (i > 10 && !cancelled) std::this_thread::yield();
              ++ran;
              --inside;
            });
          }) == "ABORTED");
    CHECK(inside == 0, "nothing runs any more when the call returns");
    CHECK(ran >= 1 && ran <= 11 + threads, ran.load());
    cancelled = false;
    ran = 0;
    pool.parallel_for(10, cancelled, [&](size_t) { ++ran; });
    CHECK(ran == 10);
  }
}

void exceptions_reach_the_caller_and_leave_the_pool_usable() {
  for (const size_t threads : kSizes) {
    ThreadPool pool(threads);
    for (size_t round = 0; round < rounds(300); ++round) {
      std::atomic<size_t> ran{0}, inside{0};
      std::string caught;
      try {
        pool.parallel_for(200, never, [&](size_t i) {
          ++inside;
          ++ran;
          --inside;
          if (i >= 3) throw std::runtime_error("task");  // several of them may throw at once
        });
      } catch (const std::runtime_error& error) {
        caught = error.what();
      }
      CHECK(caught == "task" && inside == 0 && ran <= 3 + threads, ran.load());
      pool.parallel_for(5, never, [&](size_t) { ++ran; });
    }
    // A failure is told even when the run was cancelled meanwhile.
    std::atomic<bool> cancelled{false};
    CHECK(error_of([&] {
            pool.parallel_for(4, cancelled, [&](size_t) {
              cancelled = true;
              throw Error("OUT_OF_MEMORY", "none left");
            });
          }) == "OUT_OF_MEMORY");
  }
}

void several_callers_share_the_threads() {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::vector<size_t> sums(5, 0), aborted(5, 0);
  const size_t num_rounds = rounds(300);
  for (size_t caller = 0; caller < sums.size(); ++caller)
    callers.emplace_back([&, caller] {
      for (size_t round = 0; round < num_rounds; ++round) {
        std::atomic<size_t> sum{0};
        std::atomic<bool> cancelled{false};
        const bool abort = (round + caller) % 7 == 0;
        aborted[caller] += error_of([&] {
                             pool.parallel_for(40, cancelled, [&](size_t i) {
                               if (abort && i == 20) cancelled = true;
                               sum += i;
                             });
                           }) == "ABORTED";
        if (!abort) sums[caller] += sum;
      }
    });
  for (std::thread& caller : callers) caller.join();
  for (size_t caller = 0; caller < sums.size(); ++caller) {
    size_t aborts = 0;
    for (size_t round = 0; round < num_rounds; ++round) aborts += (round + caller) % 7 == 0;
    CHECK(aborted[caller] == aborts && sums[caller] == (num_rounds - aborts) * 780, caller);  // 0 + .. + 39
  }
}

void tasks_may_use_the_pool_themselves() {
  for (const size_t threads : kSizes) {
    ThreadPool pool(threads);
    std::vector<std::thread> callers;
    std::atomic<size_t> sum{0};
    for (int caller = 0; caller < 3; ++caller)
      callers.emplace_back([&] {
        for (size_t round = 0; round < rounds(40); ++round)
          pool.parallel_for(6, never, [&](size_t i) {
            pool.parallel_for(5, never, [&](size_t j) {
              pool.parallel_for(2, never, [&](size_t k) { sum += i * 10 + j * 2 + k; });
            });
          });
      });
    for (std::thread& caller : callers) caller.join();
    CHECK(sum == 3 * rounds(40) * 1770, sum.load());  // the numbers 0 .. 59
  }
}

void pools_come_and_go() {
  for (size_t round = 0; round < rounds(200); ++round) {
    std::atomic<size_t> ran{0};
    {
      ThreadPool pool(1 + round % 5);
      if (round % 3 != 0) pool.parallel_for(round % 11, never, [&](size_t) { ++ran; });
    }
    CHECK(ran == (round % 3 != 0 ? round % 11 : 0));
  }
}

}  // namespace

int main() {
  RUN(every_task_runs_once);
  RUN(results_are_visible_and_calls_follow_each_other);
  RUN(threads_work_at_once);
  RUN(cancelling_drops_what_has_not_begun);
  RUN(exceptions_reach_the_caller_and_leave_the_pool_usable);
  RUN(several_callers_share_the_threads);
  RUN(tasks_may_use_the_pool_themselves);
  RUN(pools_come_and_go);
  return result();
}
