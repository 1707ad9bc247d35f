// Chooses the Kernels table by the CPU, at run time.
#pragma once
#include <string>

#include "kernels.h"

namespace poc::cpu {

const Kernels& kernels_for(const std::string& simd);

}  // namespace poc::cpu
