#include "sha256.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace poc {
namespace {

// FIPS 180-4, section 4.2.2.
alignas(16) constexpr uint32_t kRound[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
                                             0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
                                             0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
                                             0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
                                             0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
                                             0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
                                             0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
                                             0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
                                             0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
                                             0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
                                             0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void store_big_endian(uint32_t word, uint8_t* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(word >> (24 - 8 * i));
}

uint32_t load_big_endian(const uint8_t* in) {
  return static_cast<uint32_t>(in[0]) << 24 | static_cast<uint32_t>(in[1]) << 16 | static_cast<uint32_t>(in[2]) << 8 |
         in[3];
}

uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

// Section 6.2.2, as it is written there.
void compress_plain(uint32_t state[8], const uint8_t* blocks, size_t num_blocks) {
  for (; num_blocks > 0; --num_blocks, blocks += 64) {
    uint32_t w[64];
    for (int t = 0; t < 16; ++t) w[t] = load_big_endian(blocks + 4 * t);
    for (int t = 16; t < 64; ++t) {
      const uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
      const uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
      w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; ++t) {
      const uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + kRound[t] + w[t];
      const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t out[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state[i] += out[i];
  }
}

#if defined(__x86_64__)
// The instructions keep the state as the words a b e f and c d g h, the first one highest, and take four
// message words at a time: two rounds on their low half, two on their high half.
__attribute__((target("sha,sse4.1,ssse3"))) void compress_sha(uint32_t state[8], const uint8_t* blocks,
                                                              size_t num_blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
  __m128i abef = _mm_set_epi32(static_cast<int>(state[0]), static_cast<int>(state[1]), static_cast<int>(state[4]),
                               static_cast<int>(state[5]));
  __m128i cdgh = _mm_set_epi32(static_cast<int>(state[2]), static_cast<int>(state[3]), static_cast<int>(state[6]),
                               static_cast<int>(state[7]));
  for (; num_blocks > 0; --num_blocks, blocks += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];  // of the last sixteen message words
#pragma GCC unroll 16
    for (int group = 0; group < 16; ++group) {
      __m128i& now = w[group % 4];
      if (group < 4) {
        const auto* words = reinterpret_cast<const __m128i*>(blocks + 16 * group);
        now = _mm_shuffle_epi8(_mm_loadu_si128(words), big_endian);
      } else {
        const __m128i last = w[(group + 3) % 4], before = w[(group + 2) % 4];
        const __m128i sum =
            _mm_add_epi32(_mm_sha256msg1_epu32(now, w[(group + 1) % 4]), _mm_alignr_epi8(last, before, 4));
        now = _mm_sha256msg2_epu32(sum, last);
      }
      const __m128i k = _mm_load_si128(reinterpret_cast<const __m128i*>(kRound + 4 * group));
      const __m128i terms = _mm_add_epi32(now, k);
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, terms);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(terms, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  alignas(16) uint32_t feba[4], hgdc[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(feba), abef);
  _mm_store_si128(reinterpret_cast<__m128i*>(hgdc), cdgh);
  const uint32_t out[8] = {feba[3], feba[2], hgdc[3], hgdc[2], feba[1], feba[0], hgdc[1], hgdc[0]};
  std::copy(out, out + 8, state);
}

bool has_sha() {
  unsigned a, b = 0, c, d;
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
         __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#elif defined(__aarch64__)
#if defined(__clang__)
#define POC_SHA_TARGET __attribute__((target("sha2")))
#else
#define POC_SHA_TARGET __attribute__((target("+crypto")))
#endif
POC_SHA_TARGET void compress_sha(uint32_t state[8], const uint8_t* blocks, size_t num_blocks) {
  uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
  for (; num_blocks > 0; --num_blocks, blocks += 64) {
    const uint32x4_t abcd_before = abcd, efgh_before = efgh;
    uint32x4_t w[4];  // of the last sixteen message words
#pragma GCC unroll 16
    for (int group = 0; group < 16; ++group) {
      uint32x4_t& now = w[group % 4];
      if (group < 4)
        now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(blocks + 16 * group)));
      else
        now = vsha256su1q_u32(vsha256su0q_u32(now, w[(group + 1) % 4]), w[(group + 2) % 4], w[(group + 3) % 4]);
      const uint32x4_t terms = vaddq_u32(now, vld1q_u32(kRound + 4 * group)), abcd_old = abcd;
      abcd = vsha256hq_u32(abcd, efgh, terms);
      efgh = vsha256h2q_u32(efgh, abcd_old, terms);
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(state, abcd);
  vst1q_u32(state + 4, efgh);
}

bool has_sha() {
#if defined(__linux__)
  constexpr unsigned long kSha2 = 1ul << 6;  // HWCAP_SHA2
  return (getauxval(AT_HWCAP) & kSha2) != 0;
#else
  return true;  // every 64-bit ARM of Apple's
#endif
}
#endif

std::vector<Sha256Code> available() {
  std::vector<Sha256Code> codes;
#if defined(__x86_64__) || defined(__aarch64__)
  if (has_sha()) codes.push_back({"sha", compress_sha});
#endif
  codes.push_back({"plain", compress_plain});
  return codes;
}

}  // namespace

const std::vector<Sha256Code>& sha256_codes() {
  static const std::vector<Sha256Code> codes = available();
  return codes;
}

Sha256& Sha256::update(const void* data, size_t bytes) {
  const auto* in = static_cast<const uint8_t*>(data);
  const size_t filled = num_bytes_ % kBlock;
  num_bytes_ += bytes;
  if (filled > 0) {
    const size_t taken = std::min(bytes, kBlock - filled);
    if (taken > 0) memcpy(rest_ + filled, in, taken);
    if (filled + taken < kBlock) return *this;
    code_->compress(state_, rest_, 1);
    in += taken;
    bytes -= taken;
  }
  code_->compress(state_, in, bytes / kBlock);
  if (bytes % kBlock > 0) memcpy(rest_, in + bytes / kBlock * kBlock, bytes % kBlock);
  return *this;
}

// Section 5.1.1: a one, zeros up to the last 8 bytes of a block, the length in bits.
void Sha256::finish(uint8_t out[kBytes]) {
  const uint64_t num_bits = num_bytes_ * 8;
  uint8_t padding[kBlock + 8] = {0x80};
  const size_t zeros_end = num_bytes_ % kBlock < 56 ? 56 : 120;
  const size_t length = zeros_end - num_bytes_ % kBlock;
  store_big_endian(static_cast<uint32_t>(num_bits >> 32), padding + length);
  store_big_endian(static_cast<uint32_t>(num_bits), padding + length + 4);
  update(padding, length + 8);
  for (int i = 0; i < 8; ++i) store_big_endian(state_[i], out + 4 * i);
}

}  // namespace poc
