// Collective operations of a warp: shuffles, votes, __syncwarp. Lanes run by turns in between, so code that
// leans on lanes in lockstep breaks here.
#pragma once
#include "block.h"

namespace poc::emulator {

// The rendezvous that lanes of this mask wait in, or a free one. Overlapping masks are no mistake: lanes may wait
// for others that are still in an operation of their own; if they never come, it is a deadlock.
inline Rendezvous& rendezvous_of(uint32_t mask, const char* operation, const Location& where) {
  Warp& warp = *running_thread->warp;
  Rendezvous* found = nullptr;
  for (Rendezvous& other : warp.rendezvous) {
    if (other.arrived == 0) {
      if (!found) found = &other;
    } else if (other.mask == mask) {
      if (!strcmp(other.operation, operation) && same_place(other.where, where)) return other;
      fail(format("warp %u divergence: %s of lanes %08x, while other lanes of them wait in %s at %s", warp.id,
                  operation, mask, other.operation, line_of(other.where).c_str()),
           where);
    }
  }
  if (!found) fail("too many collective operations of one warp at once", where);
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) && running_block->threads[warp.id * 32 + lane]->state == Thread::State::kDone)
      fail(format("%s: lane %u of the mask has exited", operation, lane), where);
  found->mask = mask;
  found->operation = operation;
  found->where = where;
  return *found;
}

// Waits for all lanes of the mask; the last one calls compute(Argument* [32]) for all, nullptr where no lane is.
template <class Argument, class Compute>
void warp_collective(uint32_t mask, const char* operation, const Location& where, Argument& argument,
                     bool orders_memory, const Compute& compute) {
  Hidden hidden;
  Thread& self = *running_thread;
  Warp& warp = *self.warp;
  mask &= warp.lanes;
  if (!(mask >> self.lane & 1))
    fail(format("%s: the calling lane %u is not in the mask %08x", operation, self.lane, mask), where);
  Rendezvous& meeting = rendezvous_of(mask, operation, where);
  void* token = &meeting.tokens[meeting.phase & 1];
  meeting.arguments[self.lane] = &argument;
  meeting.arrived |= 1u << self.lane;
  if (orders_memory) release(token);
  if (meeting.arrived == mask) {
    Argument* arguments[32] = {};
    for (uint32_t lane = 0; lane < 32; ++lane)
      if (mask >> lane & 1) arguments[lane] = static_cast<Argument*>(meeting.arguments[lane]);
    meeting.arrived = 0;
    ++meeting.phase;
    compute(arguments);
    for (uint32_t lane = 0; lane < 32; ++lane)
      if ((mask >> lane & 1) && lane != self.lane) make_ready(*running_block->threads[warp.id * 32 + lane]);
  } else {
    wait_in(operation, where);
  }
  if (orders_memory) acquire(token);
}

template <class T>
struct ShuffleArgument {
  T value, result;
  uint32_t source;
};

// Every lane gets the value of lane `source`; its own where that lies outside 0...31.
template <class T>
T shuffle(uint32_t mask, const T& value, const char* operation, uint32_t source, const Location& where) {
  ShuffleArgument<T> argument{value, value, source < 32 ? source : running_thread->lane};
  warp_collective(mask, operation, where, argument, false, [&](ShuffleArgument<T>** lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      if (!lanes[lane]) continue;
      const ShuffleArgument<T>* source = lanes[lanes[lane]->source];
      if (!source) fail(format("%s: lane %d reads a lane outside the mask", operation, lane), where);
      lanes[lane]->result = source->value;
    }
  });
  return argument.result;
}

// The segment of `width` lanes that the running lane is in.
struct Segment {
  int lane, first, end;
  Segment(int width, const Location& where) {
    if (width < 1 || width > 32 || (width & (width - 1))) fail(format("shuffle width %d", width), where);
    lane = static_cast<int>(running_thread->lane);
    first = lane & ~(width - 1);
    end = first + width;
  }
};

inline constexpr uint32_t kOwnLane = 32;

// The lanes whose predicate holds.
inline uint32_t vote(uint32_t mask, const char* operation, bool predicate, const Location& where) {
  struct Argument {
    bool predicate;
    uint32_t ballot;
  } argument{predicate, 0};
  warp_collective(mask, operation, where, argument, false, [](Argument** lanes) {
    uint32_t ballot = 0;
    for (int lane = 0; lane < 32; ++lane)
      if (lanes[lane] && lanes[lane]->predicate) ballot |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
      if (lanes[lane]) lanes[lane]->ballot = ballot;
  });
  return argument.ballot;
}

inline void sync_warp(uint32_t mask, const Location& where) {
  struct Argument {
  } argument;
  warp_collective(mask, "__syncwarp", where, argument, true, [](Argument**) {});
}

}  // namespace poc::emulator
