// Runs the blocks of a grid one after the other on the calling OS thread. Fibers, stacks and shared memory stay
// with the OS thread for its next launch.
#pragma once
#include "shared_memory.h"

namespace poc::emulator {

inline void run_thread() {
  Block& block = *running_block;
  Thread& thread = *running_thread;
  try {
    block.call(block.kernel);
  } catch (const BlockFailed&) {
  } catch (const std::exception& error) {
    note_error(error.what());
  }
  Hidden hidden;
  release(&block.end_token);
  thread.state = Thread::State::kDone;
  ++block.num_done;
}

// A fiber serves one CUDA thread of block after block.
[[noreturn]] POC_NO_TSAN inline void thread_main() {
  Fiber::arrived();
  for (;;) {
    running_thread->started = true;
    acquire(&running_block->start_token);
    run_thread();
    Thread& self = *running_thread;
    Thread* next = nullptr;
    {
      Hidden hidden;
      next = next_thread();
    }
    switch_thread(self.fiber, next);
  }
}

// The threads and warps of a block of this shape.
inline void shape_block(Block& block, Dim3 shape) {
  if (block.num_threads == shape.count() && block.shape.x == shape.x && block.shape.y == shape.y) return;
  block.shape = shape;
  block.num_threads = static_cast<uint32_t>(shape.count());
  block.warps = std::vector<Warp>((block.num_threads + 31) / 32);
  const size_t stack_bytes = options().stack_bytes * (kAddressSanitizer || kThreadSanitizer ? 4 : 1);
  while (block.threads.size() < block.num_threads) {
    auto thread = std::make_unique<Thread>();
    thread->fiber.create(thread_main, stack_bytes, block.threads.size());
    block.threads.push_back(std::move(thread));
  }
  for (uint32_t i = 0; i < block.num_threads; ++i) {
    Thread& thread = *block.threads[i];
    thread.id = i;
    thread.lane = i % 32;
    thread.index = shape.at(i);
    thread.warp = &block.warps[i / 32];
    thread.warp->id = i / 32;
    thread.warp->lanes |= 1u << thread.lane;
  }
}

inline void prepare_block(Block& block, size_t smem_bytes) {
  block.num_done = 0;
  block.error.clear();
  block.unwinding = false;
  block.ready.clear();
  block.ready_head = 0;
  block.barrier.arrived = 0;
  for (Warp& warp : block.warps)
    for (Rendezvous& meeting : warp.rendezvous) meeting.arrived = 0;
  prepare_shared(block.shared, smem_bytes);
  const bool reverse = options().schedule == Schedule::kEager;
  for (uint32_t i = 0; i < block.num_threads; ++i) {
    Thread& thread = *block.threads[reverse ? block.num_threads - 1 - i : i];
    thread.started = false;
    thread.copies.clear();
    thread.open_group = 0;
    make_ready(thread);
  }
}

// Resumes the threads that a failed block left waiting one by one, to leave their frames.
inline void unwind(Block& block) {
  Hidden hidden;
  if (block.error.empty()) return;
  block.unwinding = true;
  for (uint32_t i = 0; i < block.num_threads; ++i) {
    Thread& thread = *block.threads[i];
    if (thread.started && thread.state != Thread::State::kDone) switch_thread(block.main, &thread);
  }
}

inline void run_block(Block& block, size_t smem_bytes) {
  Thread* first = nullptr;
  {
    Hidden hidden;
    prepare_block(block, smem_bytes);
    first = next_thread();
  }
  release(&block.start_token);
  switch_thread(block.main, first);
  unwind(block);
  acquire(&block.end_token);
  if (block.error.empty()) {
    const std::string written = check_gaps(block.shared);
    if (!written.empty()) note_error(written);
  }
  if (!block.error.empty()) throw LaunchError(block.error);
}

inline void run_blocks(Dim3 grid, Dim3 shape, size_t smem_bytes, void (*call)(const void*), const void* kernel) {
  static thread_local Block block;
  if (running_block) throw LaunchError("a kernel cannot launch a kernel");
  struct Running {
    ~Running() { running_block = nullptr; }
  } running;
  running_block = &block;
  block.grid_shape = grid;
  block.call = call;
  block.kernel = kernel;
  block.dice = new_dice();
  shape_block(block, shape);
  const uint64_t num_blocks = grid.count();
  const Schedule schedule = options().schedule;
  const uint64_t first = schedule == Schedule::kRandom ? block.dice.roll(num_blocks) : 0;
  for (uint64_t i = 0; i < num_blocks; ++i) {
    block.index = grid.at(schedule == Schedule::kEager ? num_blocks - 1 - i : (first + i) % num_blocks);
    run_block(block, smem_bytes);
  }
}

// Runs kernel() as every thread of the grid; LaunchError when it does something wrong.
template <class Kernel>
void run_grid(Dim3 grid, Dim3 shape, size_t smem_bytes, const Kernel& kernel) {
  run_blocks(
      grid, shape, smem_bytes, [](const void* p) { (*static_cast<const Kernel*>(p))(); }, &kernel);
}

}  // namespace poc::emulator
