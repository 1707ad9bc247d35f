// The types and constants of the CUDA runtime, as far as they are emulated, with their real names and values.
#pragma once
#include <cstddef>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidMemcpyDirection = 21,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
};

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};

enum cudaMemoryType {
  cudaMemoryTypeUnregistered = 0,
  cudaMemoryTypeHost = 1,
  cudaMemoryTypeDevice = 2,
  cudaMemoryTypeManaged = 3,
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

inline constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;
inline constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock;
  int warpSize;
  int maxThreadsPerBlock;
  int major, minor;
  int multiProcessorCount;
  int l2CacheSize;
  int maxThreadsPerMultiProcessor;
  size_t sharedMemPerBlockOptin;
};

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void* devicePointer;
  void* hostPointer;
};

struct cudaFuncAttributes {
  size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
  int maxThreadsPerBlock;
  int numRegs;
  int ptxVersion, binaryVersion;
  int maxDynamicSharedSizeBytes;
};

inline const char* cudaGetErrorName(cudaError_t error) {
#define POC_ERROR_NAME(name) \
  case name:                 \
    return #name
  switch (error) {
    POC_ERROR_NAME(cudaSuccess);
    POC_ERROR_NAME(cudaErrorInvalidValue);
    POC_ERROR_NAME(cudaErrorMemoryAllocation);
    POC_ERROR_NAME(cudaErrorInvalidConfiguration);
    POC_ERROR_NAME(cudaErrorInvalidMemcpyDirection);
    POC_ERROR_NAME(cudaErrorInsufficientDriver);
    POC_ERROR_NAME(cudaErrorNoDevice);
    POC_ERROR_NAME(cudaErrorInvalidDevice);
    POC_ERROR_NAME(cudaErrorInvalidResourceHandle);
    POC_ERROR_NAME(cudaErrorNotReady);
    POC_ERROR_NAME(cudaErrorIllegalAddress);
    POC_ERROR_NAME(cudaErrorLaunchFailure);
  }
#undef POC_ERROR_NAME
  return "unrecognized error code";
}
