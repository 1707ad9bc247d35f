// Streams: queues of operations that are done when the schedule says so, or when something waits for them.
#pragma once
#include <exception>
#include <utility>
#include <vector>

#include "device.h"

namespace poc::emulator {

inline void run_up_to(Stream& stream, uint64_t position);

// Does the oldest operation, and first what it waits for. After a failure nothing is done any more.
inline void run_one(Stream& stream) {
  Stream::Operation operation = std::move(stream.queue.front());
  if (operation.awaited) {
    run_up_to(*operation.awaited, operation.position);
  } else if (device().failure == cudaSuccess) {
    try {
      operation.work();
    } catch (const std::exception& error) {
      set_failure(cudaErrorLaunchFailure, error.what());
    }
  }
  stream.queue.pop_front();
  ++stream.num_done;
}

// A wait names a position that existed when it was enqueued: there are no cycles.
inline void run_up_to(Stream& stream, uint64_t position) {
  while (stream.num_done < position) run_one(stream);
}

inline void run_all(Stream& stream) { run_up_to(stream, stream.num_enqueued()); }

inline void run_all_streams() {
  for (auto& [handle, stream] : device().streams) run_all(*stream);
}

// The oldest operation does not wait for another stream.
inline bool is_runnable(const Stream& stream) {
  if (stream.queue.empty()) return false;
  const Stream::Operation& operation = stream.queue.front();
  return !operation.awaited || operation.awaited->num_done >= operation.position;
}

// What the device does by itself when it gets a new operation.
inline void run_by_schedule(Stream& stream) {
  if (options().schedule == Schedule::kEager) {
    while (is_runnable(stream)) run_one(stream);
  } else if (options().schedule == Schedule::kRandom) {
    Dice dice = new_dice();
    std::vector<Stream*> runnable;
    for (uint32_t i = dice.roll(2) ? 0 : 1 + dice.roll(4); i > 0; --i) {
      runnable.clear();
      for (auto& [handle, other] : device().streams)
        if (is_runnable(*other)) runnable.push_back(other.get());
      if (runnable.empty()) return;
      run_one(*runnable[dice.roll(runnable.size())]);
    }
  }
}

// nullptr for a handle that is not a live stream.
inline std::shared_ptr<Stream> find_stream(cudaStream_t handle) {
  const auto found = device().streams.find(handle);
  return found == device().streams.end() ? nullptr : found->second;
}

inline CUevent_st* find_event(cudaEvent_t handle) {
  const auto found = device().events.find(handle);
  return found == device().events.end() ? nullptr : found->second.get();
}

inline cudaError_t enqueue(cudaStream_t handle, Stream::Operation operation) {
  const std::shared_ptr<Stream> stream = find_stream(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  stream->queue.push_back(std::move(operation));
  run_by_schedule(*stream);
  return cudaSuccess;
}

inline cudaError_t enqueue_work(cudaStream_t handle, std::function<void()> work) {
  return enqueue(handle, {std::move(work), nullptr, 0});
}

}  // namespace poc::emulator
