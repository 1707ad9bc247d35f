// out = x w^T. Each output is one chain over ascending inputs; see docs/NUMERICS.md, section 4.
#include "ops.h"
#include "tile.h"

namespace poc::cpu::POC_SIMD {
namespace {

// Inputs per block: a panel's share (64-128 KiB) stays in the second-level cache while all rows pass.
// The chains are stored and resumed between blocks, so blocking changes no bit.
constexpr size_t kBlockInputs = 1024;

}  // namespace

void pack_rows(Rows x, size_t first_row, size_t rows, float* out) {
  for (size_t k = 0; k < x.cols; ++k)
    for (size_t m = 0; m < rows; ++m) *out++ = x.data[(first_row + m) * x.stride + k];
}

void matmul(const MatmulBlock& block, size_t first_panel, size_t last_panel) {
  with_dtype(block.dtype, [&](auto dtype) {
    using D = decltype(dtype);
    const auto* weights = static_cast<const typename D::Value*>(block.w);
    for (size_t panel = first_panel; panel < last_panel; ++panel) {
      const auto* w = weights + panel * kPanel * block.num_inputs;
      for (size_t k = 0; k < block.num_inputs; k += kBlockInputs) {
        const size_t num_k = block.num_inputs - k < kBlockInputs ? block.num_inputs - k : kBlockInputs;
        for (size_t row = 0; row < block.rows; row += kTileRows) {
          const size_t rows = block.rows - row < kTileRows ? block.rows - row : kTileRows;
          tiles<D>(static_cast<int>(rows), kPanel / kLanes, block.x + row * block.num_inputs + k * rows, w + k * kPanel,
                   kPanel, num_k, block.out + row * block.out_stride + panel * kPanel, block.out_stride, k > 0);
        }
      }
    }
  });
}

}  // namespace poc::cpu::POC_SIMD
