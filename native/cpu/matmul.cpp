// out = x w^T. Each output is one chain over ascending inputs; see docs/NUMERICS.md, section 4.
#include <algorithm>

#include "ops.h"
#include "tile.h"

namespace poc::cpu::POC_SIMD {
namespace {

// Blocks of kBlockInputs inputs by kGroup panels (256 KiB widened) stay in the second-level cache while all
// rows pass; a tile's rows (24 KiB) stay in the first-level cache for the panels of a group. The chains are
// stored and resumed between blocks, so blocking changes no bit.
constexpr size_t kBlockInputs = 512, kGroup = kPanelsTogether;

// Fewer tiles of rows than this read each weight once, in order, at the speed of memory: decoding.
constexpr size_t kBlockedTiles = 4;

bool blocked(const MatmulBlock& block) { return block.rows >= kBlockedTiles * kTileRows; }

// Widening a block of weights once costs less than doing it again for each tile of rows.
bool widens(const MatmulBlock& block) { return blocked(block) && block.dtype != Dtype::f32; }

struct Inputs {
  size_t first, count;
};

// One block of inputs for panels [first, last), whose weights for it begin `panel_stride` values apart at `w`.
template <class D>
void multiply(const MatmulBlock& block, size_t first, size_t last, Inputs k, const typename D::Value* w,
              size_t panel_stride) {
  for (size_t row = 0; row < block.rows; row += kTileRows) {
    const size_t rows = std::min<size_t>(block.rows - row, kTileRows);
    const float* x = block.x + row * block.num_inputs + k.first * rows;
    float* out = block.out + row * block.out_stride;
    for (size_t panel = first; panel < last; ++panel)
      tiles<D>(static_cast<int>(rows), kPanel / kLanes, x, w + (panel - first) * panel_stride, kPanel, k.count,
               out + panel * kPanel, block.out_stride, k.first > 0);
  }
}

typedef float Four __attribute__((vector_size(16), aligned(4)));

// Elements of a, 0 to 3, and of b, 4 to 7.
template <int I, int J, int K, int L>
Four shuffle(Four a, Four b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I, J, K, L);
#else  // GCC has clang's built-in only from 12 on
  typedef int Mask __attribute__((vector_size(16)));
  return __builtin_shuffle(a, b, Mask{I, J, K, L});
#endif
}

void transpose4(const float* in, size_t in_stride, float* out, size_t out_stride) {
  Four row[4];
  for (int i = 0; i < 4; ++i) row[i] = *reinterpret_cast<const Four*>(in + i * in_stride);
  const Four ab = shuffle<0, 4, 1, 5>(row[0], row[1]);
  const Four cd = shuffle<0, 4, 1, 5>(row[2], row[3]);
  const Four AB = shuffle<2, 6, 3, 7>(row[0], row[1]);
  const Four CD = shuffle<2, 6, 3, 7>(row[2], row[3]);
  const Four col[4] = {shuffle<0, 1, 4, 5>(ab, cd), shuffle<2, 3, 6, 7>(ab, cd), shuffle<0, 1, 4, 5>(AB, CD),
                       shuffle<2, 3, 6, 7>(AB, CD)};
  for (int i = 0; i < 4; ++i) *reinterpret_cast<Four*>(out + i * out_stride) = col[i];
}

template <class D>
void widen(const typename D::Value* in, size_t count, float* out) {
  for (size_t i = 0; i < count; i += kLanes) store(out + i, load(in + i, D()));
}

}  // namespace

// By blocks of 4 x 4 values, which every instruction set transposes in registers.
void pack_rows(Rows x, size_t first_row, size_t rows, float* out) {
  const float* in = x.data + first_row * x.stride;
  const size_t whole_rows = rows / 4 * 4, whole_cols = x.cols / 4 * 4;
  for (size_t k = 0; k < whole_cols; k += 4) {
    for (size_t m = 0; m < whole_rows; m += 4) transpose4(in + m * x.stride + k, x.stride, out + k * rows + m, rows);
    for (size_t m = whole_rows; m < rows; ++m)
      for (size_t j = k; j < k + 4; ++j) out[j * rows + m] = in[m * x.stride + j];
  }
  for (size_t k = whole_cols; k < x.cols; ++k)
    for (size_t m = 0; m < rows; ++m) out[k * rows + m] = in[m * x.stride + k];
}

size_t matmul_scratch(const MatmulBlock& block) { return widens(block) ? kGroup * kPanel * kBlockInputs : 0; }

void matmul(const MatmulBlock& block, size_t first_panel, size_t last_panel, float* scratch) {
  with_dtype(block.dtype, [&](auto dtype) {
    using D = decltype(dtype);
    const size_t panel_size = kPanel * block.num_inputs;
    const size_t group = blocked(block) ? kGroup : 1, most_inputs = blocked(block) ? kBlockInputs : block.num_inputs;
    for (size_t first = first_panel; first < last_panel; first += group) {
      const size_t last = std::min(last_panel, first + group);
      for (size_t k = 0; k < block.num_inputs; k += most_inputs) {
        const Inputs inputs{k, std::min(block.num_inputs - k, most_inputs)};
        const auto* w = static_cast<const typename D::Value*>(block.w) + first * panel_size + k * kPanel;
        if (!widens(block)) {
          multiply<D>(block, first, last, inputs, w, panel_size);
          continue;
        }
        for (size_t i = 0; i < last - first; ++i)
          widen<D>(w + i * panel_size, inputs.count * kPanel, scratch + i * inputs.count * kPanel);
        multiply<F32>(block, first, last, inputs, scratch, inputs.count * kPanel);
      }
    }
  });
}

}  // namespace poc::cpu::POC_SIMD
