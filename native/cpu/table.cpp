// The Kernels table of one instruction set.
#include "ops.h"
#include "simd.h"

#define POC_TEXT_(x) #x
#define POC_TEXT(x) POC_TEXT_(x)

namespace poc::cpu::POC_SIMD {

extern const Kernels kernels;
const Kernels kernels = {POC_TEXT(POC_SIMD), kTileRows, pack_rows, matmul, matmul_scratch, rmsnorm, rope_kv, attention,
                         attention_scratch,  swiglu,    add,       exp};

}  // namespace poc::cpu::POC_SIMD
