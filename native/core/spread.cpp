#include "spread.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace poc {

void spread(size_t count, size_t least, size_t num_threads, const std::function<void(size_t, size_t)>& f) {
  const size_t most = std::max<size_t>(1, count / std::max<size_t>(1, least));
  const size_t parts = std::max<size_t>(1, std::min(num_threads, most));
  std::vector<std::exception_ptr> failures(parts);
  const auto call = [&](size_t part) {
    try {
      f(count * part / parts, count * (part + 1) / parts);
    } catch (...) {
      failures[part] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(parts);
  size_t begun = 1;
  try {
    for (; begun < parts; ++begun) threads.emplace_back(call, begun);
  } catch (const std::system_error&) {  // no more threads to be had: the rest is done here
  }
  call(0);
  for (size_t part = begun; part < parts; ++part) call(part);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace poc
