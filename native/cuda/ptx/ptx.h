// What kernels need beyond CUDA C++: each instruction once, in a device form (device.cuh) and a host form
// (the emulator's ptx.h), and launching. Kernels themselves never contain assembly.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include "device.cuh"
#define POC_LAUNCH(kernel, grid, block, smem_bytes, stream, args) (kernel)<<<grid, block, smem_bytes, stream>>>(args)
#else
#include "../../emulator/emulator.h"
#endif
