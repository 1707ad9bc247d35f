// Host work beside a backend's ops, on threads of its own: for tasks of a millisecond or more each.
#pragma once
#include <cstddef>
#include <functional>

namespace poc {

// Calls f(first, last) for ranges that cover 0..count, one a thread, the caller's among them, in ranges of at least
// `least`. Throws what a call threw once all have ended.
void spread(size_t count, size_t least, size_t num_threads, const std::function<void(size_t, size_t)>& f);

}  // namespace poc
