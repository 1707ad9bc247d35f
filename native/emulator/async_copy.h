// cp.async: copies into shared memory that happen at issue (eager), when waited for (lazy), or either (random).
#pragma once
#include "shared_memory.h"

namespace poc::emulator {

inline constexpr uint32_t kAsyncBytes = 16;

inline void perform(AsyncCopy& copy) {
  if (copy.from) {
    saw_read(copy.from, kAsyncBytes);
    memcpy(copy.to, copy.from, kAsyncBytes);
  } else {
    memset(copy.to, 0, kAsyncBytes);
  }
  copy.done = true;
}

inline void issue_async_copy(uint32_t to, const void* from, bool predicate, const Location& where) {
  Hidden hidden;
  if (predicate && reinterpret_cast<uintptr_t>(from) % kAsyncBytes) fail("cp.async: misaligned source", where);
  Thread& thread = *running_thread;
  AsyncCopy copy{shared_at(to, kAsyncBytes, kAsyncBytes, "cp.async", where),
                 predicate ? static_cast<const char*>(from) : nullptr, thread.open_group, false};
  saw_write(copy.to, kAsyncBytes);  // from here on nobody else may touch the destination
  const Schedule schedule = options().schedule;
  if (schedule == Schedule::kEager || (schedule == Schedule::kRandom && running_block->dice.roll(2))) perform(copy);
  thread.copies.push_back(copy);
}

inline void commit_async_copies() { ++running_thread->open_group; }

// Completes the running thread's groups except the newest `num_pending` committed ones.
inline void wait_async_copies(uint32_t num_pending) {
  Hidden hidden;
  Thread& thread = *running_thread;
  size_t num_complete = 0;
  for (AsyncCopy& copy : thread.copies) {
    if (copy.group + num_pending >= thread.open_group) break;
    saw_write(copy.to, kAsyncBytes);
    if (!copy.done) perform(copy);
    ++num_complete;
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<ptrdiff_t>(num_complete));
}

}  // namespace poc::emulator
