// The CPU as a backend: memory, packing, and ops split over a thread pool.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../core/backend.h"

namespace poc::cpu {

// Instruction sets that were compiled in and that this CPU has, best first: "avx512", "avx2", "neon", "plain".
std::vector<std::string> available_simd();

// What the CPU says of itself, as far as it matters for speed: names as in compiler flags.
std::vector<std::string> cpu_features();

// `simd`: "auto" or one of available_simd(); throws INVALID_ARGUMENT for any other.
std::unique_ptr<Backend> make_backend(size_t num_threads, const std::string& simd);

}  // namespace poc::cpu
