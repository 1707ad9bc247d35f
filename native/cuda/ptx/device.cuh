// Device forms of the PTX wrappers, one instruction a function. The host forms say what they mean.
#pragma once

namespace poc::ptx {

static __device__ __forceinline__ unsigned char* dynamic_smem() {
  extern __shared__ __align__(128) unsigned char poc_dynamic_smem[];
  return poc_dynamic_smem;
}

static __device__ __forceinline__ uint32_t smem_u32(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// 16 bytes from global to shared memory; zeros where `pred` is false, which does not read the source.
static __device__ __forceinline__ void cp_async16(uint32_t dst_smem, const void* src_gmem, bool pred) {
  const int bytes = pred ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst_smem), "l"(src_gmem), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
static __device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Read at the cache that all multiprocessors share, so that another stream's write is seen.
static __device__ __forceinline__ uint32_t load_volatile(const uint32_t* p) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}

static __device__ __forceinline__ void store_relaxed(uint32_t* p, uint32_t value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

// binary16 to binary32, exact.
static __device__ __forceinline__ float widen_f16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Arrays of dynamic shared memory, one after the other; every thread takes the same ones.
struct SmemCarver {
  uint32_t offset = 0;
  template <class T>
  __device__ __forceinline__ T* take(uint32_t count, uint32_t align = 16) {
    offset = (offset + align - 1) / align * align;
    T* p = reinterpret_cast<T*>(dynamic_smem() + offset);
    offset += count * static_cast<uint32_t>(sizeof(T));
    return p;
  }
};

}  // namespace poc::ptx
