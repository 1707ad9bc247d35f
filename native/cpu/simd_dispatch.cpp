#include "simd_dispatch.h"

#ifdef POC_X86
#include <cpuid.h>
#endif

#include "../core/error.h"
#include "../core/sha256.h"
#include "cpu_backend.h"

namespace poc::cpu {

#ifdef POC_X86
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
#ifdef POC_NEON
namespace neon {
extern const Kernels kernels;
}
#endif
namespace plain {
extern const Kernels kernels;
}

namespace {

#ifdef POC_X86
// By hand: Clang before 18 does not know the name.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

// Best first. The compiler's built-ins ask CPUID, and the operating system for the wide registers.
std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found;
#ifdef POC_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) found.push_back(&avx512::kernels);
  if (avx2) found.push_back(&avx2::kernels);
#endif
#ifdef POC_NEON
  found.push_back(&neon::kernels);  // part of every 64-bit ARM
#endif
  found.push_back(&plain::kernels);
  return found;
}

}  // namespace

std::vector<std::string> available_simd() {
  std::vector<std::string> names;
  for (const Kernels* kernels : available()) names.emplace_back(kernels->name);
  return names;
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#ifdef POC_X86
  __builtin_cpu_init();
  // The built-in takes literals only.
#define POC_FEATURE(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  POC_FEATURE("sse4.2");
  POC_FEATURE("avx");
  if (has_f16c()) found.emplace_back("f16c");
  POC_FEATURE("fma");
  POC_FEATURE("avx2");
  POC_FEATURE("avx512f");
  POC_FEATURE("avx512bw");
  POC_FEATURE("avx512dq");
  POC_FEATURE("avx512vl");
  POC_FEATURE("avx512vnni");
  POC_FEATURE("avx512bf16");
#undef POC_FEATURE
#elif defined(__aarch64__)
  found.emplace_back("neon");
#endif
  if (sha256_codes().size() > 1) found.emplace_back(sha256_codes().front().name);
  return found;
}

const Kernels& kernels_for(const std::string& simd) {
  std::string names = "auto";
  for (const Kernels* kernels : available()) {
    if (simd == "auto" || simd == kernels->name) return *kernels;
    names += std::string(", ") + kernels->name;
  }
  throw wrong_value("INVALID_ARGUMENT", "simd", "one of " + names, simd);
}

}  // namespace poc::cpu
