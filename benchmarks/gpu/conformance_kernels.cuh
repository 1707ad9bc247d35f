// What conformance.cu runs: arithmetic of the shared numerics, and every instruction that kernels use beyond it.
#pragma once
#include "../../native/core/elementary.h"
#include "../../native/cuda/row_norm.cuh"

namespace poc::cuda {

struct Args {
  const uint32_t *a, *b, *c;
  uint32_t *out, *scratch;
  uint32_t count, op;
};

constexpr uint32_t kThreads = 128, kBlocks = 32;

enum Op : uint32_t {
  kFma,
  kMul,
  kAdd,
  kDivide,
  kRoot,
  kReciprocalRoot,
  kExp,
  kSwiglu,
  kGreater,
  kRoundBf16,
  kRoundF16,
  kWidenBf16,
  kWidenF16,
  kStoredF32,
  kFromInteger,
  kCosine,
  kSine,
  kNumOps
};
const char* const kOpNames[] = {"fmaf",      "multiply",   "add",          "divide",      "sqrtf",     "1 / sqrtf",
                                "exp32",     "swiglu",     "greater",      "round_bf16",  "round_f16", "widen_bf16",
                                "widen_f16", "stored f32", "from integer", "rope cosine", "rope sine"};
static_assert(sizeof kOpNames / sizeof *kOpNames == kNumOps, "a name an op");

// Results whose NaN differs between instruction sets are compared as they are stored: canonical.
static __device__ uint32_t stored(float x) { return float_bits(canonical_nan(x)); }

static __device__ uint32_t rope(uint32_t frequency, uint32_t position, bool cosine) {
  // Frequencies in (0, 1]; every fourth position is far beyond what models use.
  const float f = bits_float(0x3f800000u - frequency % 0x0a000000u);
  float cos_value, sin_value;
  rope_angle(f, position % 4 ? position % 131072 : position % (1u << 29), &cos_value, &sin_value);
  return float_bits(cosine ? cos_value : sin_value);
}

static __device__ uint32_t value_of(uint32_t op, uint32_t a_bits, uint32_t b_bits, uint32_t c_bits) {
  const float a = bits_float(a_bits), b = bits_float(b_bits), c = bits_float(c_bits);
  switch (op) {
    case kFma:
      return stored(fmaf(a, b, c));
    case kMul:
      return stored(a * b);
    case kAdd:
      return stored(a * b + c);  // two roundings: this also finds a contraction
    case kDivide:
      return stored(a / b);
    case kRoot:
      return stored(sqrtf(a));
    case kReciprocalRoot:
      return stored(1.0f / sqrtf(a / 2048.0f + 1e-5f));
    case kExp:
      return stored(exp32(a));
    case kSwiglu:
      return stored(a / (1.0f + exp32(0.0f - a)) * b);
    case kGreater:
      return float_bits(a > b ? a : b);
    case kRoundBf16:
      return round_bf16(a);
    case kRoundF16:
      return round_f16(a);
    case kWidenBf16:
      return float_bits(widen(Bf16{static_cast<uint16_t>(a_bits)}));
    case kWidenF16:
      return stored(widen(F16{static_cast<uint16_t>(a_bits)}));
    case kStoredF32:
      return float_bits(canonical_nan(a));
    case kFromInteger:
      return float_bits(static_cast<float>(a_bits));
    case kCosine:
      return rope(a_bits, b_bits, true);
    default:
      return rope(a_bits, b_bits, false);
  }
}

__global__ void numbers_kernel(const __grid_constant__ Args args) {
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < args.count; i += kBlocks * kThreads)
    args.out[i] = value_of(args.op, args.a[i], args.b[i], args.c[i]);
}

// Two groups of copies: the first is waited for and read alone, then the second. Zero fill where bit 0 of `c` is 0,
// with a source that nobody may read.
__global__ void copy_kernel(const __grid_constant__ Args args) {
  ptx::SmemCarver smem;
  uint32_t* first_smem = smem.take<uint32_t>(4 * kThreads, 128);
  uint32_t* second_smem = smem.take<uint32_t>(4 * kThreads, 128);
  const uint32_t at = threadIdx.x * 4;
  for (int i = 0; i < 4; ++i) first_smem[at + i] = second_smem[at + i] = 0xdeadbeefu;
  __syncthreads();
  const bool wanted = args.c[threadIdx.x] & 1;
  const uint32_t* unmapped = reinterpret_cast<const uint32_t*>(uintptr_t{16});
  ptx::cp_async16(ptx::smem_u32(first_smem + at), args.op || wanted ? args.a + at : unmapped, wanted);
  ptx::cp_async_commit();
  ptx::cp_async16(ptx::smem_u32(second_smem + at), args.op || !wanted ? args.b + at : unmapped, !wanted);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  __syncthreads();
  const uint32_t neighbour = (threadIdx.x * 5 + 3) % kThreads * 4;
  for (int i = 0; i < 4; ++i) args.out[at + i] = first_smem[neighbour + i];
  ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) args.out[4 * kThreads + at + i] = second_smem[neighbour + i];
}

// Offsets after arrays of odd sizes, whether each begins as asked, and whether they keep what is written.
__global__ void carver_kernel(const __grid_constant__ Args args) {
  ptx::SmemCarver smem;
  uint8_t* bytes = smem.take<uint8_t>(3);
  uint32_t at[5] = {smem.offset};
  float* floats = smem.take<float>(5);
  at[1] = smem.offset;
  uint32_t* words = smem.take<uint32_t>(7, 128);
  at[2] = smem.offset;
  double* doubles = smem.take<double>(2, 64);
  at[3] = smem.offset;
  uint16_t* halves = smem.take<uint16_t>(9, 2);
  at[4] = smem.offset;
  if (threadIdx.x > 0) return;
  bytes[2] = 1, floats[4] = 2, words[6] = 3, doubles[1] = 4, halves[8] = 5;
  for (int i = 0; i < 5; ++i) args.out[i] = at[i];
  args.out[5] = ptx::smem_u32(bytes) % 16, args.out[6] = ptx::smem_u32(floats) % 16;
  args.out[7] = ptx::smem_u32(words) % 128, args.out[8] = ptx::smem_u32(doubles) % 64;
  args.out[9] = bytes[2], args.out[10] = static_cast<uint32_t>(floats[4]), args.out[11] = words[6];
  args.out[12] = static_cast<uint32_t>(doubles[1]), args.out[13] = halves[8];
}

// Shuffles and votes; one result of each kind a thread.
__global__ void warp_kernel(const __grid_constant__ Args args) {
  const uint32_t all = 0xffffffffu, word = args.a[threadIdx.x], lane = threadIdx.x % kWarp;
  uint32_t kind = 0;
  const auto put = [&](uint32_t value) { args.out[kind++ * kThreads + threadIdx.x] = value; };
  for (int width = 1; width < kWarp; width *= 2) put(float_bits(__shfl_xor_sync(all, bits_float(word), width)));
  put(__shfl_sync(all, word, static_cast<int>((lane * 7 + 3) % kWarp)));
  put(__shfl_down_sync(all, word, 5u));
  put(__shfl_up_sync(all, word, 5u));
  put(__shfl_xor_sync(all, word, 3, 8));
  put(__ballot_sync(all, static_cast<int>(word & 1)));
  put(__any_sync(all, word % 64 == 0) != 0);
  put(__all_sync(all, word % 64 != 0) != 0);
  put(static_cast<uint32_t>(__popc(word)));
}

// __syncthreads_or by rounds in which none, one and several threads say yes, and the stop word's two accesses.
__global__ void block_kernel(const __grid_constant__ Args args) {
  for (uint32_t round = 0; round < 8; ++round) {
    const bool yes = round % 2 == 1 && threadIdx.x % (1u << round) == round;
    args.out[round * kThreads + threadIdx.x] = __syncthreads_or(yes) != 0;
  }
  ptx::store_relaxed(args.scratch + threadIdx.x, args.a[threadIdx.x]);
  __syncthreads();
  args.out[8 * kThreads + threadIdx.x] = ptx::load_volatile(args.scratch + (threadIdx.x + 37) % kThreads);
}

// A warp's sum in the order of the numerics contract: rows of 1 .. 97 values.
__global__ void norm_kernel(const __grid_constant__ Args args) {
  const uint32_t row = threadIdx.x / kWarp + blockIdx.x * (kThreads / kWarp), lane = threadIdx.x % kWarp;
  const float* x = reinterpret_cast<const float*>(args.a) + row * 97;
  const float scale = inverse_rms(x, 1 + row % 97, 1e-5f, static_cast<int>(lane));
  args.out[row * kWarp + lane] = stored(scale);
}

}  // namespace poc::cuda
