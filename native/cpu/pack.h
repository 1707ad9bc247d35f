// The packed layout of a weight matrix: panels of kPanel outputs, see kernels.h.
#pragma once
#include "../core/tensor.h"

namespace poc::cpu {

size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype);

// Packs panels [first, last) of `weight`; false when a value is NaN or infinite.
bool pack_panels(const TensorView& weight, size_t first, size_t last, void* packed);

// out = row `output` of a packed matrix, widened.
void unpack_row(const Matrix& matrix, size_t output, float* out);

}  // namespace poc::cpu
