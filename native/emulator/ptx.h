// Host forms of the PTX wrappers: what the instructions mean, on the emulated shared memory.
#pragma once
#include "../core/dtype.h"
#include "async_copy.h"
#include "cuda_names.h"

namespace poc::ptx {

inline uint32_t smem_u32(const void* p, POC_WHERE) { return emulator::shared_offset(p, where); }

// 16 bytes from global to shared memory; zeros where `pred` is false, which does not read the source.
inline void cp_async16(uint32_t dst_smem, const void* src_gmem, bool pred, POC_WHERE) {
  emulator::issue_async_copy(dst_smem, src_gmem, pred, where);
}
inline void cp_async_commit() { emulator::commit_async_copies(); }
template <int N>
inline void cp_async_wait() {
  emulator::wait_async_copies(N);
}

inline float widen_f16(uint16_t bits) { return poc::widen_f16(bits); }

// Arrays of dynamic shared memory, one after the other; every thread takes the same ones.
struct SmemCarver {
  uint32_t offset = 0;
  uint32_t shift = 0;  // of the gaps, which the device does not have
  template <class T>
  T* take(uint32_t count, uint32_t align = 16, POC_WHERE) {
    return static_cast<T*>(emulator::carve_shared(offset, shift, uint64_t{count} * sizeof(T), align, where));
  }
};

inline uint32_t load_volatile(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
inline void store_relaxed(uint32_t* p, uint32_t value) { __atomic_store_n(p, value, __ATOMIC_RELAXED); }

}  // namespace poc::ptx
