// What a test can choose about the emulated device, and when work that CUDA lets happen "some time later"
// really happens.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace poc::emulator {

// When asynchronous work (cp.async, operations of a stream) is done, and in which order threads run:
//   kLazy    as late as the program allows, threads and blocks in order: finds missing waits
//   kEager   at issue, threads and blocks in reverse order: finds buffers that are refilled too early
//   kRandom  both, as the seed decides
enum class Schedule { kLazy, kEager, kRandom };

struct Options {
  Schedule schedule = Schedule::kLazy;
  uint64_t seed = 0;

  // The device that cudaGetDeviceProperties and the like describe.
  int num_devices = 1;
  const char* name = "Emulated GPU";
  int major = 9, minor = 0;
  int num_multiprocessors = 4;
  int l2_bytes = 4 << 20;
  int driver_version = 13000, runtime_version = 13000;
  size_t device_memory = size_t{1} << 30;  // cudaMalloc fails beyond it
  size_t max_smem = 227 * 1024;            // dynamic shared memory of one block; 99 KB on sm_86, sm_89 and sm_120

  // So many more calls succeed and all later ones fail; below 0: none fails.
  int64_t fail_malloc_after = -1;  // cudaMalloc and cudaHostAlloc
  int64_t fail_launch_after = -1;  // kernels, when the device reaches them

  size_t stack_bytes = 64 * 1024;  // of one CUDA thread; more under a sanitizer
};

inline Options& options() {
  static Options options;
  return options;
}

// Counts a failure hook down; true when this call has to fail.
inline bool reached(int64_t& calls_left) {
  if (calls_left == 0) return true;
  if (calls_left > 0) --calls_left;
  return false;
}

struct Dice {  // splitmix64
  uint64_t state = 0;
  uint32_t roll(size_t sides) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<uint32_t>(((z ^ (z >> 31)) >> 11) % sides);
  }
};

// Dice that are thrown anew for every launch and every enqueued operation.
inline std::atomic<uint64_t>& num_dice() {
  static std::atomic<uint64_t> count{0};
  return count;
}

inline Dice new_dice() { return {options().seed * 0xd1b54a32d192ed03ull + ++num_dice()}; }

// All options back to their defaults; what follows is the same after every reset.
inline void reset() {
  options() = {};
  num_dice() = 0;
}

}  // namespace poc::emulator
