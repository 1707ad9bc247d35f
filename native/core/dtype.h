// Stored number types and their exact conversions (docs/NUMERICS.md, section 2).
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// What CUDA kernels share with the CPU, so that both run the same steps. `static`: each file that includes
// this keeps its own copy, so that one compiled for a newer CPU is never linked into code that must run on
// an older one.
#if defined(__CUDACC__)
#define POC_SHARED static __host__ __device__ __forceinline__
#else
#define POC_SHARED static inline
#endif

namespace poc {

enum class Dtype : uint8_t { f32, f16, bf16 };

POC_SHARED size_t dtype_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

POC_SHARED uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

POC_SHARED float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

POC_SHARED float widen_bf16(uint16_t h) { return bits_float(static_cast<uint32_t>(h) << 16); }

POC_SHARED float widen_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  if (exponent == 0x1fu) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float tiny = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
  return sign ? -tiny : tiny;
}

// NaN payloads and signs differ between instruction sets; what is stored never does.
POC_SHARED float canonical_nan(float x) { return x == x ? x : bits_float(0x7fc00000u); }

// Round to nearest, ties to even; NaN becomes 0x7fc0.
POC_SHARED uint16_t round_bf16(float x) {
  if (x != x) return 0x7fc0u;
  const uint32_t bits = float_bits(x);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Round to nearest, ties to even, subnormals kept, overflow to infinity; NaN becomes 0x7e00.
POC_SHARED uint16_t round_f16(float x) {
  if (x != x) return 0x7e00u;
  const uint32_t bits = float_bits(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 1/2 rounds to a multiple of 2^-24
    const float scaled = bits_float(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (float_bits(scaled) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// `data` may be unaligned: a tensor may begin at any byte of its file.
POC_SHARED float load_float(const void* data, Dtype dtype, size_t i) {
  if (dtype == Dtype::f32) {
    float x;
    memcpy(&x, static_cast<const char*>(data) + i * 4, 4);
    return x;
  }
  uint16_t h;
  memcpy(&h, static_cast<const char*>(data) + i * 2, 2);
  return dtype == Dtype::bf16 ? widen_bf16(h) : widen_f16(h);
}

POC_SHARED void store_float(void* data, Dtype dtype, size_t i, float x) {
  if (dtype == Dtype::f32)
    static_cast<float*>(data)[i] = canonical_nan(x);
  else
    static_cast<uint16_t*>(data)[i] = dtype == Dtype::bf16 ? round_bf16(x) : round_f16(x);
}

}  // namespace poc
