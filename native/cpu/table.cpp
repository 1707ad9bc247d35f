// The Kernels table of one instruction set.
#include "ops.h"
#include "simd.h"

namespace poc::cpu::POC_SIMD {

extern const Kernels kernels;
const Kernels kernels = {POC_TEXT(POC_SIMD), kTileRows, pack_rows, matmul, matmul_scratch, rmsnorm, rope_kv, attention,
                         attention_scratch,  swiglu,    add,       exp};

}  // namespace poc::cpu::POC_SIMD
