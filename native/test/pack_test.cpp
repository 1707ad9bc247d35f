// Packed weights: the layout of kernels.h, nothing lost, and no NaN or infinity let in.
#include "../cpu/pack.h"

#include <atomic>

#include "../cpu/kernels.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const std::atomic<bool> never{false};
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
const std::pair<size_t, size_t> kShapes[] = {{1, 1}, {31, 5}, {32, 3}, {33, 40}, {64, 1}, {100, 17}};

uint32_t exponent_of(Dtype dtype) {
  return dtype == Dtype::f32 ? 0x7f800000u : dtype == Dtype::f16 ? 0x7c00u : 0x7f80u;
}

struct Bits {  // a weight of random finite patterns, subnormals and zeros of both signs among them
  std::vector<uint8_t> bytes;
  TensorView view;

  Bits(Random& random, size_t rows, size_t cols, Dtype dtype) : bytes(rows * cols * dtype_bytes(dtype) + 1) {
    view = {bytes.data() + 1, dtype, rows, cols, "some.weight"};
    for (size_t i = 0; i < rows * cols; ++i) {
      uint32_t bits;
      do bits = static_cast<uint32_t>(random.next()) >> (dtype == Dtype::f32 ? 0 : 16);
      while ((bits & exponent_of(dtype)) == exponent_of(dtype));
      set(i, random.below(8) == 0 ? bits & ~exponent_of(dtype) : bits);
    }
  }
  void set(size_t i, uint32_t bits) {
    const size_t size = dtype_bytes(view.dtype);
    for (size_t byte = 0; byte < size; ++byte) bytes[1 + i * size + byte] = static_cast<uint8_t>(bits >> (8 * byte));
  }
  float value(size_t row, size_t col) const { return load_float(view.data, view.dtype, row * view.cols + col); }
};

void unpacking_gives_back_every_bit() {
  Random random(71);
  for (const size_t threads : {1, 4}) {
    const auto backend = cpu::make_backend(threads, "auto");
    for (const Dtype dtype : kDtypes)
      for (const auto& [rows, cols] : kShapes) {
        const Bits weight(random, rows, cols, dtype);
        const Matrix packed = backend->pack(weight.view, never);
        for (size_t row = 0; row < rows; ++row) {
          std::vector<float> out(cols + 1, 5.0f);
          cpu::unpack_row(packed, row, out.data());
          CHECK(out[cols] == 5.0f);
          for (size_t col = 0; col < cols; ++col)
            CHECK(float_bits(out[col]) == float_bits(weight.value(row, col)), row, " ", col);
        }
      }
  }
}

void panels_hold_32_outputs_for_each_input_and_zeros_behind() {
  Random random(72);
  for (const Dtype dtype : kDtypes)
    for (const auto& [rows, cols] : kShapes) {
      const Bits weight(random, rows, cols, dtype);
      const size_t panels = (rows + 31) / 32, bytes = panels * 32 * cols * dtype_bytes(dtype);
      CHECK(cpu::packed_bytes(rows, cols, dtype) == bytes);
      std::vector<uint8_t> packed(bytes + 1, 0xa5), by_panel(bytes + 1, 0xa5);
      CHECK(cpu::pack_panels(weight.view, 0, panels, packed.data()));
      for (size_t panel = panels; panel-- > 0;) CHECK(cpu::pack_panels(weight.view, panel, panel + 1, by_panel.data()));
      CHECK(packed == by_panel && packed[bytes] == 0xa5);
      for (size_t row = 0; row < panels * 32; ++row)
        for (size_t col = 0; col < cols; ++col) {
          const float got = load_float(packed.data(), dtype, (row / 32 * cols + col) * 32 + row % 32);
          CHECK(float_bits(got) == float_bits(row < rows ? weight.value(row, col) : 0.0f), row, " ", col);
        }
    }
}

void a_nan_or_an_infinity_is_refused_by_name() {
  Random random(73);
  const auto backend = cpu::make_backend(2, "auto");
  for (const Dtype dtype : kDtypes)
    for (const auto& [rows, cols] : kShapes)
      for (const size_t at : {size_t{0}, rows * cols / 2, rows * cols - 1}) {
        const uint32_t exponent = exponent_of(dtype), sign = dtype == Dtype::f32 ? 0x80000000u : 0x8000u;
        const uint32_t lowest = exponent & (~exponent + 1);  // of the exponent's bits
        for (const uint32_t bits :
             {exponent, exponent | sign, exponent | 1, exponent | sign | 1, exponent | (lowest - 1)}) {
          Bits weight(random, rows, cols, dtype);
          weight.set(at, bits);
          CHECK(error_of([&] { backend->pack(weight.view, never); }) == "MODEL_NON_FINITE some.weight", bits);
          weight.view.rows = 1, weight.view.cols = rows * cols;  // as a vector
          CHECK(error_of([&] { backend->widen(weight.view); }) == "MODEL_NON_FINITE some.weight", bits);
        }
        Bits weight(random, rows, cols, dtype);
        weight.set(at, exponent - 1);  // the largest finite value
        CHECK(error_of([&] { backend->pack(weight.view, never); }).empty());
      }
}

void vectors_are_widened() {
  Random random(74);
  const auto backend = cpu::make_backend(2, "auto");
  for (const Dtype dtype : kDtypes) {
    const Bits weight(random, 1, 77, dtype);
    const Vector wide = backend->widen(weight.view);
    CHECK(wide.size == 77);
    for (size_t i = 0; i < 77; ++i) CHECK(float_bits(wide.data()[i]) == float_bits(weight.value(0, i)), i);
  }
  CHECK(Vector().data() == nullptr);
}

void packing_can_be_cancelled() {
  Random random(75);
  const auto backend = cpu::make_backend(2, "auto");
  const Bits weight(random, 200, 9, Dtype::bf16);
  const std::atomic<bool> cancelled{true};
  CHECK(error_of([&] { backend->pack(weight.view, cancelled); }) == "ABORTED");
}

void a_model_with_one_bad_weight_is_refused_by_its_name() {
  for (const char* tensor : {"model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight",
                             "model.layers.0.self_attn.v_proj.bias"}) {
    RandomModel m = random_models()[2];
    RandomModel::Stored& stored = m.tensors.at(tensor);
    const size_t last = stored.offset + (stored.rows * stored.cols - 1) * 2;
    stored.bytes[last] = 0x80, stored.bytes[last + 1] = 0xff;  // -infinity in bf16
    CHECK(error_of([&] { m.load(2, "auto"); }) == std::string("MODEL_NON_FINITE ") + tensor);
  }
}

void uploads_and_allocations_are_aligned_copies_and_zeros() {
  const auto backend = cpu::make_backend(1, "auto");
  for (const size_t bytes : {0, 1, 63, 64, 65, 1000}) {
    const std::vector<uint8_t> data(bytes, 0x77);
    const auto copy = backend->upload(data.data(), bytes), zeros = backend->allocate(bytes);
    CHECK(reinterpret_cast<uintptr_t>(copy->data()) % 64 == 0 && reinterpret_cast<uintptr_t>(zeros->data()) % 64 == 0);
    for (size_t i = 0; i < bytes; ++i)
      CHECK(static_cast<uint8_t*>(copy->data())[i] == 0x77 && static_cast<uint8_t*>(zeros->data())[i] == 0);
  }
  CHECK(error_of([&] { cpu::make_backend(1, "avx1024"); }) == "INVALID_ARGUMENT simd");
}

}  // namespace

int main() {
  RUN(unpacking_gives_back_every_bit);
  RUN(panels_hold_32_outputs_for_each_input_and_zeros_behind);
  RUN(a_nan_or_an_infinity_is_refused_by_name);
  RUN(vectors_are_widened);
  RUN(packing_can_be_cancelled);
  RUN(a_model_with_one_bad_weight_is_refused_by_its_name);
  RUN(uploads_and_allocations_are_aligned_copies_and_zeros);
  return result();
}
