// The memory calls of the CUDA runtime. Ranges are checked against the live blocks when the call is made.
#pragma once
#include "stream.h"

namespace poc::emulator {

// `height` rows of `width` bytes, `pitch` bytes apart.
struct Rows {
  const char* begin;
  size_t pitch, width, height;
  size_t extent() const { return height == 0 || width == 0 ? 0 : (height - 1) * pitch + width; }
};

inline void copy_rows(char* to, size_t to_pitch, const char* from, size_t from_pitch, size_t width, size_t height) {
  for (size_t row = 0; row < height; ++row) memcpy(to + row * to_pitch, from + row * from_pitch, width);
}

// Pinned memory is read when the copy is done; other host memory has been read when the call returns.
inline cudaError_t copy_async(const Rows& to, const Rows& from, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(device().mutex);
  Device& state = device();
  if (kind < cudaMemcpyHostToDevice || kind > cudaMemcpyDeviceToDevice) return answer(cudaErrorInvalidMemcpyDirection);
  if (to.width > to.pitch || from.width > from.pitch) return answer(cudaErrorInvalidValue);
  if (to.extent() == 0) return answer(cudaSuccess);
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  if (state.memory.contains(to.begin, 1) != to_device || state.memory.contains(from.begin, 1) != from_device)
    return answer(cudaErrorInvalidValue);
  const auto fits = [&](const Rows& rows) {
    if (state.memory.contains(rows.begin, 1)) return state.memory.contains(rows.begin, rows.extent());
    return !state.pinned.contains(rows.begin, 1) || state.pinned.contains(rows.begin, rows.extent());
  };
  if (!fits(to) || !fits(from)) return answer(cudaErrorInvalidValue);
  auto* target = const_cast<char*>(to.begin);
  if (from_device || state.pinned.contains(from.begin, 1))
    return answer(
        enqueue_work(stream, [=] { copy_rows(target, to.pitch, from.begin, from.pitch, from.width, from.height); }));
  std::vector<char> snapshot(from.width * from.height);
  copy_rows(snapshot.data(), from.width, from.begin, from.pitch, from.width, from.height);
  return answer(enqueue_work(stream, [=, snapshot = std::move(snapshot)] {
    copy_rows(target, to.pitch, snapshot.data(), from.width, from.width, from.height);
  }));
}

inline cudaError_t allocate(MemoryBlocks& blocks, void** pointer, size_t bytes, size_t limit) {
  const Lock lock(device().mutex);
  *pointer = nullptr;
  if (device().failure != cudaSuccess) return answer(cudaSuccess);
  if (options().num_devices == 0) return answer(cudaErrorNoDevice);
  if (bytes == 0) return cudaSuccess;
  if (bytes > limit || blocks.live_bytes() > limit - bytes) return answer(cudaErrorMemoryAllocation);
  if (reached(options().fail_malloc_after)) return answer(cudaErrorMemoryAllocation);
  *pointer = blocks.allocate(bytes);
  return answer(*pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

// Freeing waits for the device, as the real calls do in practice. After a failure it frees all the same.
inline cudaError_t release(MemoryBlocks& blocks, void* pointer) {
  const Lock lock(device().mutex);
  if (!pointer) return answer(cudaSuccess);
  run_all_streams();
  return answer(blocks.release(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}

}  // namespace poc::emulator

template <class T>
cudaError_t cudaMalloc(T** pointer, size_t bytes) {
  void* p = nullptr;
  const cudaError_t error =
      poc::emulator::allocate(poc::emulator::device().memory, &p, bytes, poc::emulator::options().device_memory);
  *pointer = static_cast<T*>(p);
  return error;
}

inline cudaError_t cudaFree(void* pointer) { return poc::emulator::release(poc::emulator::device().memory, pointer); }

template <class T>
cudaError_t cudaHostAlloc(T** pointer, size_t bytes, unsigned) {
  void* p = nullptr;
  const cudaError_t error = poc::emulator::allocate(poc::emulator::device().pinned, &p, bytes, SIZE_MAX);
  *pointer = static_cast<T*>(p);
  return error;
}

inline cudaError_t cudaFreeHost(void* pointer) {
  return poc::emulator::release(poc::emulator::device().pinned, pointer);
}

inline cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const size_t live = poc::emulator::live_device_bytes();
  *total_bytes = poc::emulator::options().device_memory;
  *free_bytes = *total_bytes > live ? *total_bytes - live : 0;
  const poc::emulator::Lock lock(poc::emulator::device().mutex);
  return poc::emulator::answer(cudaSuccess);
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream = nullptr) {
  return poc::emulator::copy_async({static_cast<const char*>(to), bytes, bytes, 1},
                                   {static_cast<const char*>(from), bytes, bytes, 1}, kind, stream);
}

inline cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                     size_t height, cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
  return poc::emulator::copy_async({static_cast<const char*>(to), to_pitch, width, height},
                                   {static_cast<const char*>(from), from_pitch, width, height}, kind, stream);
}

inline cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream = nullptr) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  if (bytes == 0) return answer(cudaSuccess);
  if (!device().memory.contains(pointer, bytes)) return answer(cudaErrorInvalidValue);
  return answer(enqueue_work(stream, [=] { memset(pointer, value, bytes); }));
}

inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  auto* p = const_cast<void*>(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, p};
  if (device().memory.contains(p, 1)) *attributes = {cudaMemoryTypeDevice, 0, p, nullptr};
  if (device().pinned.contains(p, 1)) *attributes = {cudaMemoryTypeHost, 0, p, p};
  return answer(cudaSuccess);
}
