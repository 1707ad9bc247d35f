// Runs CUDA kernels, compiled by g++, and the CUDA runtime calls around them on the CPU: for tests. Everything
// that CUDA leaves open (thread order, when a copy happens) is chosen so that programs that rely on it fail.
#pragma once
#include "cuda_names.h"
#include "launch.h"
#include "memory_calls.h"
#include "ptx.h"
#include "stream_calls.h"
