// A vector of 16 fp32 lanes for the instruction set POC_SIMD, whose file simd_<POC_SIMD>.h has the vector,
// its operations and the size of a tile. Every op is written once over `Vec` and compiled once per set;
// lanes never mix, so that all sets give the same bits.
#pragma once
#include "../core/dtype.h"
#include "../core/elementary.h"

#ifndef POC_SIMD
#error "POC_SIMD names the instruction set and its namespace; CMakeLists.txt sets it"
#endif
#define POC_TEXT_(x) #x
#define POC_TEXT(x) POC_TEXT_(x)
#define POC_SIMD_FILE_(simd) POC_TEXT(simd_##simd.h)
#define POC_SIMD_FILE(simd) POC_SIMD_FILE_(simd)

namespace poc::cpu::POC_SIMD {

constexpr int kLanes = 16;

// Stored types as template arguments, with the C type that holds one value.
struct F32 {
  using Value = float;
};
struct F16 {
  using Value = uint16_t;
};
struct BF16 {
  using Value = uint16_t;
};

}  // namespace poc::cpu::POC_SIMD

#include POC_SIMD_FILE(POC_SIMD)

namespace poc::cpu::POC_SIMD {

static inline Vec load(const float* p) { return load(p, F32()); }

}  // namespace poc::cpu::POC_SIMD
