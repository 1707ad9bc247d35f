// The stream, event and error calls of the CUDA runtime.
#pragma once
#include "stream.h"

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  *stream = nullptr;
  if (options().num_devices == 0) return answer(cudaErrorNoDevice);
  if (device().failure != cudaSuccess) return answer(cudaSuccess);
  auto made = std::make_shared<CUstream_st>();
  *stream = made.get();
  device().streams[made.get()] = std::move(made);
  return cudaSuccess;
}

// What is queued is still done, as on the device.
inline cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const std::shared_ptr<Stream> stream = find_stream(handle);
  if (!stream || !handle) return answer(cudaErrorInvalidResourceHandle);
  run_all(*stream);
  device().streams.erase(handle);
  return answer(cudaSuccess);
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const std::shared_ptr<Stream> stream = find_stream(handle);
  if (!stream) return answer(cudaErrorInvalidResourceHandle);
  run_all(*stream);
  return answer(cudaSuccess);
}

inline cudaError_t cudaDeviceSynchronize() {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  run_all_streams();
  return answer(cudaSuccess);
}

// Waits for the record that the event has now, also when it is recorded again before the wait is reached.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned = 0) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const CUevent_st* event = find_event(handle);
  if (!event) return answer(cudaErrorInvalidResourceHandle);
  if (event->is_reached()) return answer(find_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
  return answer(enqueue(stream, {nullptr, event->stream, event->position}));
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  *event = nullptr;
  if (options().num_devices == 0) return answer(cudaErrorNoDevice);
  if (device().failure != cudaSuccess) return answer(cudaSuccess);
  auto made = std::make_unique<CUevent_st>();
  *event = made.get();
  device().events[made.get()] = std::move(made);
  return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  return answer(device().events.erase(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

inline cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream = nullptr) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  CUevent_st* event = find_event(handle);
  const std::shared_ptr<Stream> found = find_stream(stream);
  if (!event || !found) return answer(cudaErrorInvalidResourceHandle);
  event->stream = found;
  event->position = found->num_enqueued();
  return answer(cudaSuccess);
}

// A poller makes the device go on by one operation.
inline cudaError_t cudaEventQuery(cudaEvent_t handle) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const CUevent_st* event = find_event(handle);
  if (!event) return answer(cudaErrorInvalidResourceHandle);
  if (event->is_reached()) return answer(cudaSuccess);
  run_one(*event->stream);
  return answer(cudaErrorNotReady);
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const CUevent_st* event = find_event(handle);
  if (!event) return answer(cudaErrorInvalidResourceHandle);
  if (event->stream) run_up_to(*event->stream, event->position);
  return answer(cudaSuccess);
}

inline cudaError_t cudaGetLastError() {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  const cudaError_t error = answer(last_error());
  last_error() = cudaSuccess;
  return error;
}

inline cudaError_t cudaPeekAtLastError() {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  return answer(last_error());
}

// Of the sticky failure: what the kernel did wrong. The text stays until clear_failure().
inline const char* cudaGetErrorString(cudaError_t error) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  if (error == device().failure && error != cudaSuccess) return device().failure_text.c_str();
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return cudaGetErrorName(error);
  }
}
