// The running thread block: one fiber per CUDA thread, scheduled by turns on one OS thread, and the end of a
// block that fails. Barriers, warp operations, shared memory and cp.async are in the headers beside this one.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"
#include "options.h"

namespace poc::emulator {

using Location = std::source_location;

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  constexpr Dim3(uint32_t x = 1, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
  constexpr uint64_t count() const { return uint64_t{x} * y * z; }
  constexpr Dim3 at(uint64_t i) const {
    return Dim3(static_cast<uint32_t>(i % x), static_cast<uint32_t>(i / x % y), static_cast<uint32_t>(i / x / y));
  }
};

// A kernel that did something wrong; the message names the block, the thread and the line.
struct LaunchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Thrown through the CUDA threads of a failed block, so that their frames are left in order.
struct BlockFailed {};

struct AsyncCopy {
  char* to;
  const char* from;  // nullptr: zeros
  uint32_t group;
  bool done;
};

struct Warp;

struct Thread {
  enum class State : uint8_t { kReady, kWaiting, kDone };
  Fiber fiber;
  Dim3 index;
  uint32_t id = 0, lane = 0;
  Warp* warp = nullptr;
  State state = State::kReady;
  bool started = false;
  const char* operation = "";  // what it waits in
  Location where;
  std::vector<AsyncCopy> copies;
  uint32_t open_group = 0;  // the cp.async group that the next commit closes
};

// Lanes of a warp on their way into one collective operation. The tokens are ThreadSanitizer's, by phase.
struct Rendezvous {
  uint32_t mask = 0, arrived = 0, phase = 0;
  const char* operation = "";
  Location where;
  void* arguments[32] = {};
  char tokens[2] = {};
};

struct Warp {
  uint32_t id = 0, lanes = 0;
  Rendezvous rendezvous[8];  // several masks can be in flight at the same time
};

struct Barrier {
  uint32_t arrived = 0, phase = 0;
  const char* operation = "";
  Location where;
  bool any[2] = {};
  char tokens[2] = {};
};

// Dynamic shared memory: the arrays that the kernel carved lie in it with gaps between them.
struct SharedWindow {
  struct Array {
    uint32_t offset, bytes;
    bool operator==(const Array&) const = default;
  };
  char* memory = nullptr;
  size_t memory_bytes = 0;
  char* base = nullptr;
  size_t requested = 0, capacity = 0;
  std::vector<Array> arrays;
};

struct Block {
  Fiber main;
  std::vector<std::unique_ptr<Thread>> threads;  // may be more than num_threads: kept for later launches
  std::vector<Warp> warps;
  std::vector<Thread*> ready;
  size_t ready_head = 0;
  uint32_t num_threads = 0, num_done = 0;
  Dim3 grid_shape, shape, index;
  Barrier barrier;
  SharedWindow shared;
  std::string error;
  bool unwinding = false;
  Dice dice;
  void (*call)(const void*) = nullptr;
  const void* kernel = nullptr;
  char start_token = 0, end_token = 0;

  Block() { main.adopt_thread(); }
  ~Block() {
    unpoison(shared.memory, shared.memory_bytes);
    free(shared.memory);
  }
  Block(const Block&) = delete;
};

inline constinit thread_local Block* running_block = nullptr;
inline constinit thread_local Thread* running_thread = nullptr;

__attribute__((format(printf, 1, 2))) inline std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

inline std::string line_of(const Location& where) {
  const char* slash = strrchr(where.file_name(), '/');
  return format("%s:%u", slash ? slash + 1 : where.file_name(), static_cast<unsigned>(where.line()));
}

inline bool same_place(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column();
}

// Notes the first error of the block.
inline void note_error(const std::string& message) {
  Block& block = *running_block;
  if (!block.error.empty()) return;
  block.error = format("block (%u,%u,%u)", block.index.x, block.index.y, block.index.z);
  if (running_thread) block.error += format(" thread %u", running_thread->id);
  block.error += ": " + message;
}

[[noreturn]] inline void fail(const std::string& message, const Location& where) {
  note_error(message + " at " + line_of(where));
  throw BlockFailed();
}

inline void make_ready(Thread& thread) {
  thread.state = Thread::State::kReady;
  running_block->ready.push_back(&thread);
}

// The lanes of one warp that are in the same state as `thread`.
inline uint32_t lanes_like(const Thread& thread) {
  uint32_t mask = 0;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(thread.warp->lanes >> lane & 1)) continue;
    const Thread& other = *running_block->threads[thread.warp->id * 32 + lane];
    const bool same = other.state == thread.state &&
                      (thread.state == Thread::State::kDone ||
                       (!strcmp(other.operation, thread.operation) && same_place(other.where, thread.where)));
    if (same) mask |= 1u << lane;
  }
  return mask;
}

inline std::string describe_waiting() {
  std::string text;
  for (uint32_t i = 0; i < running_block->num_threads; ++i) {
    const Thread& thread = *running_block->threads[i];
    const uint32_t lanes = lanes_like(thread);
    if (lanes & ((1u << thread.lane) - 1)) continue;  // told with an earlier lane
    text += format("\n  warp %u lanes %08x: ", thread.warp->id, lanes);
    text += thread.state == Thread::State::kDone ? "exited" : thread.operation + (" at " + line_of(thread.where));
  }
  return text;
}

// The thread whose turn it is; nullptr: back to the OS thread, the block is over or stuck.
inline Thread* next_thread() {
  Block& block = *running_block;
  if (!block.error.empty() || block.num_done == block.num_threads) return nullptr;
  const size_t num_ready = block.ready.size() - block.ready_head;
  if (num_ready == 0) {
    const uint32_t waiting = block.num_threads - block.num_done;
    running_thread = nullptr;
    note_error(format("deadlock, %u of %u threads wait:", waiting, block.num_threads) + describe_waiting());
    return nullptr;
  }
  if (options().schedule == Schedule::kRandom)
    std::swap(block.ready[block.ready_head], block.ready[block.ready_head + block.dice.roll(num_ready)]);
  Thread* next = block.ready[block.ready_head++];
  if (block.ready_head >= 1024) {  // at most 1024 are ready: the front half is used up
    block.ready.erase(block.ready.begin(), block.ready.begin() + static_cast<ptrdiff_t>(block.ready_head));
    block.ready_head = 0;
  }
  return next;
}

POC_NO_TSAN inline void switch_thread(Fiber& from, Thread* to) {
  running_thread = to;
  from.switch_to(to ? to->fiber : running_block->main);
}

// The running thread waits until another one makes it ready.
inline void wait_in(const char* operation, const Location& where) {
  Thread& thread = *running_thread;
  thread.state = Thread::State::kWaiting;
  thread.operation = operation;
  thread.where = where;
  switch_thread(thread.fiber, next_thread());
  if (running_block->unwinding) throw BlockFailed();
}

}  // namespace poc::emulator
