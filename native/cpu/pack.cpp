#include "pack.h"

#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace poc::cpu {
namespace {

// An exponent of all ones is an infinity or a NaN.
uint32_t exponent_of(uint32_t, Dtype) { return 0x7f800000u; }
uint16_t exponent_of(uint16_t, Dtype dtype) { return dtype == Dtype::bf16 ? 0x7f80u : 0x7c00u; }

template <class T>
bool finite(const T* values, size_t count, T exponent) {
  T found = 0;
  for (size_t i = 0; i < count; ++i) found |= static_cast<T>((values[i] & exponent) == exponent);
  return found == 0;
}

// The first half's values and the second half's in turns. In a tile of kPanel rows, five of these move the bits of
// an index that say the row from its upper to its lower end: the tile is transposed, by loops that vectorise.
template <class T>
void interleave(const T* in, T* out, size_t count) {
  for (size_t i = 0; i < count / 2; ++i) {
    out[2 * i] = in[i];
    out[2 * i + 1] = in[count / 2 + i];
  }
}

template <class T>
bool pack(const TensorView& weight, size_t first, size_t last, T* packed) {
  constexpr size_t kWidth = 64 / sizeof(T), kTile = kPanel * kWidth;  // of each row, one cache line
  static_assert(kPanel == 32, "five rounds of interleave()");
  const T exponent = exponent_of(T(), weight.dtype);
  bool all_finite = true;
  for (size_t panel = first; panel < last; ++panel) {
    const size_t rows = std::min(kPanel, weight.rows - panel * kPanel);
    const char* in = static_cast<const char*>(weight.data) + panel * kPanel * weight.cols * sizeof(T);
    for (size_t k = 0; k < weight.cols; k += kWidth) {
      const size_t width = std::min(kWidth, weight.cols - k);
      alignas(64) T a[kTile] = {}, b[kTile];
      for (size_t j = 0; j < rows; ++j)
        memcpy(a + j * kWidth, in + (j * weight.cols + k) * sizeof(T), width * sizeof(T));
      all_finite &= finite(a, kTile, exponent);
      interleave(a, b, kTile);
      interleave(b, a, kTile);
      interleave(a, b, kTile);
      interleave(b, a, kTile);
      interleave(a, b, kTile);
      memcpy(packed + (panel * weight.cols + k) * kPanel, b, width * kPanel * sizeof(T));
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
