#include "pack.h"

#include "kernels.h"

namespace poc::cpu {
namespace {

// An exponent of all ones is an infinity or a NaN.
bool finite(uint32_t bits, Dtype) { return (bits & 0x7f800000u) != 0x7f800000u; }
bool finite(uint16_t bits, Dtype dtype) {
  const uint16_t exponent = dtype == Dtype::bf16 ? 0x7f80u : 0x7c00u;
  return (bits & exponent) != exponent;
}

template <class T>
bool pack(const TensorView& weight, size_t first, size_t last, T* packed) {
  const T* in = static_cast<const T*>(weight.data);
  bool all_finite = true;
  for (size_t panel = first; panel < last; ++panel) {
    T* out = packed + panel * kPanel * weight.cols;
    for (size_t j = 0; j < kPanel; ++j) {
      const size_t row = panel * kPanel + j;
      for (size_t k = 0; k < weight.cols; ++k) {
        T value = 0;
        if (row < weight.rows) memcpy(&value, in + row * weight.cols + k, sizeof value);
        all_finite &= finite(value, weight.dtype);
        out[k * kPanel + j] = value;
      }
    }
  }
  return all_finite;
}

}  // namespace

size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) {
  return (num_outputs + kPanel - 1) / kPanel * kPanel * num_inputs * dtype_bytes(dtype);
}

bool pack_panels(const TensorView& weight, size_t first, size_t last, void* packed) {
  if (weight.dtype == Dtype::f32) return pack(weight, first, last, static_cast<uint32_t*>(packed));
  return pack(weight, first, last, static_cast<uint16_t*>(packed));
}

void unpack_row(const Matrix& matrix, size_t output, float* out) {
  const size_t base = output / kPanel * kPanel * matrix.num_inputs + output % kPanel;
  const void* data = matrix.buffer->data();
  for (size_t k = 0; k < matrix.num_inputs; ++k) out[k] = load_float(data, matrix.dtype, base + k * kPanel);
}

}  // namespace poc::cpu
