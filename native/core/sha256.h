// SHA-256 (FIPS 180-4), incremental, on the processor's own instructions where it has them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace poc {

// One way to put blocks of 64 bytes into a state.
struct Sha256Code {
  const char* name;
  void (*compress)(uint32_t state[8], const uint8_t* blocks, size_t num_blocks);
};

// What this processor can run, best first; "plain" is the last one.
const std::vector<Sha256Code>& sha256_codes();

class Sha256 {
 public:
  static constexpr size_t kBytes = 32;

  Sha256() : Sha256(sha256_codes().front()) {}
  explicit Sha256(const Sha256Code& code) : code_(&code) {}

  Sha256& update(const void* data, size_t bytes);
  // Ends the input; a copy made before goes on from where it was made.
  void finish(uint8_t out[kBytes]);

 private:
  static constexpr size_t kBlock = 64;

  const Sha256Code* code_;
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t num_bytes_ = 0;
  uint8_t rest_[kBlock];  // the last num_bytes_ % kBlock bytes
};

}  // namespace poc
