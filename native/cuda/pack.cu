// Stored row-major weights into panels of kPanel outputs, and the check that every value is finite.
#include "block.cuh"

namespace poc::cuda {
namespace {

constexpr int kTile = 32, kTileRows = 8;

struct PackArgs {
  const void* stored;  // (rows, num_inputs), packed row first_row is its first
  void* packed;
  uint32_t first_row, rows, num_inputs;
  uint32_t exponent;  // all ones in an infinity or a NaN
  uint32_t* not_finite;
};

// A block turns a tile of 32 outputs by 32 inputs around in shared memory, so that both sides move whole rows.
template <class Bits>
__global__ void __launch_bounds__(kTile* kTileRows) pack_kernel(const __grid_constant__ PackArgs args) {
  const Bits* stored = static_cast<const Bits*>(args.stored);
  Bits* packed = static_cast<Bits*>(args.packed);
  ptx::SmemCarver smem;
  Bits* tile_smem = smem.take<Bits>(kTile * (kTile + 1));
  const uint32_t lane = threadIdx.x % kTile, first = threadIdx.x / kTile;
  const uint32_t input = blockIdx.x * kTile + lane;
  bool finite = true;
  for (uint32_t i = first; i < kTile; i += kTileRows) {
    const uint32_t row = blockIdx.y * kTile + i;
    if (row >= args.rows || input >= args.num_inputs) continue;
    const Bits bits = stored[static_cast<size_t>(row) * args.num_inputs + input];
    finite = finite && (bits & args.exponent) != args.exponent;
    tile_smem[lane * (kTile + 1) + i] = bits;
  }
  if (!finite) ptx::store_relaxed(args.not_finite, 1);
  __syncthreads();
  const uint32_t row = blockIdx.y * kTile + lane, output = args.first_row + row;
  for (uint32_t i = first; i < kTile; i += kTileRows) {
    const uint32_t k = blockIdx.x * kTile + i;
    if (row >= args.rows || k >= args.num_inputs) continue;
    const size_t panel = output / kPanel;
    packed[(panel * args.num_inputs + k) * kPanel + output % kPanel] = tile_smem[i * (kTile + 1) + lane];
  }
}

}  // namespace

void pack(cudaStream_t stream, const void* stored, size_t first_row, size_t rows, const MatrixView& packed,
          uint32_t* not_finite) {
  const uint32_t exponent = packed.dtype == Dtype::f32 ? 0x7f800000u : packed.dtype == Dtype::f16 ? 0x7c00u : 0x7f80u;
  const PackArgs args{stored,
                      const_cast<void*>(packed.data),
                      static_cast<uint32_t>(first_row),
                      static_cast<uint32_t>(rows),
                      static_cast<uint32_t>(packed.num_inputs),
                      exponent,
                      not_finite};
  const dim3 grid(ceil_div(packed.num_inputs, kTile), ceil_div(rows, kTile));
  const size_t smem = kTile * (kTile + 1) * dtype_bytes(packed.dtype);
  if (packed.dtype == Dtype::f32)
    POC_LAUNCH((pack_kernel<uint32_t>), grid, kTile * kTileRows, smem, stream, args);
  else
    POC_LAUNCH((pack_kernel<uint16_t>), grid, kTile * kTileRows, smem, stream, args);
}

}  // namespace poc::cuda
