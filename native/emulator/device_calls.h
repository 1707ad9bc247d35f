// The calls of the CUDA runtime that ask about the device and its kernels.
#pragma once
#include "device.h"

namespace poc::emulator {

inline bool is_device(int index) { return index >= 0 && index < options().num_devices; }

inline int& current_device() {
  static thread_local int index = 0;
  return index;
}

inline constexpr int kDefaultSmem = 48 * 1024;  // more has to be asked for with cudaFuncSetAttribute

template <class Kernel>
const void* kernel_key(Kernel* kernel) {
  return reinterpret_cast<const void*>(kernel);
}

}  // namespace poc::emulator

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = poc::emulator::options().num_devices;
  const poc::emulator::Lock lock(poc::emulator::device().mutex);
  return poc::emulator::answer(*count ? cudaSuccess : cudaErrorNoDevice);
}

inline cudaError_t cudaSetDevice(int index) {
  const poc::emulator::Lock lock(poc::emulator::device().mutex);
  if (!poc::emulator::is_device(index)) return poc::emulator::answer(cudaErrorInvalidDevice);
  poc::emulator::current_device() = index;
  return poc::emulator::answer(cudaSuccess);
}

inline cudaError_t cudaGetDevice(int* index) {
  *index = poc::emulator::current_device();
  return cudaSuccess;
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  if (!is_device(index)) return answer(cudaErrorInvalidDevice);
  *properties = {};
  strncpy(properties->name, options().name, sizeof properties->name - 1);
  properties->totalGlobalMem = options().device_memory;
  properties->sharedMemPerBlock = kDefaultSmem;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->major = options().major;
  properties->minor = options().minor;
  properties->multiProcessorCount = options().num_multiprocessors;
  properties->l2CacheSize = options().l2_bytes;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlockOptin = options().max_smem;
  return answer(cudaSuccess);
}

inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = poc::emulator::options().driver_version;
  return cudaSuccess;
}

inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = poc::emulator::options().runtime_version;
  return cudaSuccess;
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  if (!kernel || value < 0) return answer(cudaErrorInvalidValue);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (static_cast<size_t>(value) > options().max_smem) return answer(cudaErrorInvalidValue);
    device().dynamic_smem[kernel_key(kernel)] = value;
  }
  return answer(cudaSuccess);
}

// g++ has no registers of a GPU to count: the numbers only have to be plausible.
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel* kernel) {
  using namespace poc::emulator;
  const Lock lock(device().mutex);
  if (!kernel) return answer(cudaErrorInvalidValue);
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 10 * options().major + options().minor;
  const auto allowed = device().dynamic_smem.find(kernel_key(kernel));
  attributes->maxDynamicSharedSizeBytes = allowed == device().dynamic_smem.end() ? kDefaultSmem : allowed->second;
  return answer(cudaSuccess);
}
