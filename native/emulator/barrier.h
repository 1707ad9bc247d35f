// __syncthreads and __syncthreads_or: all threads of the block, from one place in the source.
#pragma once
#include "block.h"

namespace poc::emulator {

// Whether any thread brought `predicate`. A thread that has exited never arrives: the rest is a deadlock.
inline bool block_barrier(const char* operation, bool predicate, const Location& where) {
  Hidden hidden;
  Block& block = *running_block;
  Barrier& barrier = block.barrier;
  const uint32_t phase = barrier.phase & 1;
  if (barrier.arrived == 0) {
    barrier.operation = operation;
    barrier.where = where;
    barrier.any[phase] = false;
  } else if (strcmp(barrier.operation, operation) != 0 || !same_place(barrier.where, where)) {
    fail(format("barrier divergence: %s, while other threads wait in %s at %s", operation, barrier.operation,
                line_of(barrier.where).c_str()),
         where);
  }
  ++barrier.arrived;
  barrier.any[phase] |= predicate;
  release(&barrier.tokens[phase]);
  if (barrier.arrived == block.num_threads) {
    barrier.arrived = 0;
    ++barrier.phase;
    for (uint32_t i = 0; i < block.num_threads; ++i)
      if (block.threads[i].get() != running_thread) make_ready(*block.threads[i]);
  } else {
    wait_in(operation, where);
  }
  acquire(&barrier.tokens[phase]);
  return barrier.any[phase];
}

}  // namespace poc::emulator
