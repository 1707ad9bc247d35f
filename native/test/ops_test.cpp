// Every op of every instruction set: bit for bit against reference.h, and within a stated bound of the same
// formula in double.
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "../core/backend.h"
#include "../cpu/cpu_backend.h"
#include "check.h"
#include "reference.h"

using namespace poc;
using namespace poc::test;
using reference::Array;

namespace {

constexpr double kUnit = 0x1p-24;  // half an ulp, relative
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
const char* name_of(Dtype dtype) { return dtype == Dtype::f32 ? "f32" : dtype == Dtype::f16 ? "f16" : "bf16"; }

struct Path {
  std::string name;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Ops> ops;
};

const std::atomic<bool> never{false};

std::vector<Path>& paths() {
  static std::vector<Path> all = [] {
    std::vector<Path> made;
    for (const std::string& simd : cpu::available_simd()) {
      auto backend = cpu::make_backend(3, simd);
      auto ops = backend->ops(never);
      made.push_back({simd, std::move(backend), std::move(ops)});
    }
    return made;
  }();
  return all;
}

// Activations on the backend's side. What pads a row, and one row beyond the last, is a NaN of its own:
// reading it would show, and a row that was written would no longer hold it.
struct Activations {
  std::unique_ptr<Buffer> buffer;
  Rows rows;

  Activations(Backend& backend, const Array& values) {
    const size_t stride = backend.row_stride(values.cols);
    buffer = backend.allocate((values.rows + 1) * stride * sizeof(float));
    rows = {static_cast<float*>(buffer->data()), values.rows, values.cols, stride};
    std::fill(rows.data, rows.data + (values.rows + 1) * stride, bits_float(0x7fd1dead));
    for (size_t i = 0; i < values.rows; ++i)
      std::copy(values.row(i), values.row(i) + values.cols, rows.data + i * stride);
  }
  Activations(Backend& backend, size_t num_rows, size_t cols) : Activations(backend, filled(num_rows, cols)) {}

  static Array filled(size_t num_rows, size_t cols) {
    return {num_rows, cols, std::vector<float>(num_rows * cols, bits_float(0x7fd1dead))};
  }
  bool untouched_behind() const {
    const float* end = rows.data + rows.rows * rows.stride;
    for (size_t i = 0; i < rows.stride; ++i)
      if (float_bits(end[i]) != 0x7fd1dead) return false;
    return true;
  }
};

void hold_same(const Activations& got, const Array& expected, const std::string& what) {
  CHECK(got.rows.rows == expected.rows && got.rows.cols == expected.cols, what);
  CHECK(got.untouched_behind(), what);
  for (size_t i = 0; i < expected.rows; ++i)
    for (size_t j = 0; j < expected.cols; ++j) {
      const float value = got.rows.data[i * got.rows.stride + j];
      CHECK(same(value, expected.at(i, j)), what, " at (", i, ", ", j, "): ", value, " for ", expected.at(i, j));
    }
}

// |got - exact(i, j)| <= bound(i, j), which may be infinite where the op overflows.
void hold_near(const Array& got, const std::function<double(size_t, size_t, double*)>& exact, const std::string& what) {
  for (size_t i = 0; i < got.rows; ++i)
    for (size_t j = 0; j < got.cols; ++j) {
      double bound = 0;
      const double value = exact(i, j, &bound), error = std::fabs(got.at(i, j) - value);
      CHECK(error <= bound, what, " at (", i, ", ", j, "): ", got.at(i, j), " for ", value, ", bound ", bound);
    }
}

// A weight as a file holds it, from an odd byte on.
struct Weight {
  std::vector<uint8_t> bytes;
  TensorView view;
  Array values;

  Weight(const Array& wanted, Dtype dtype) : bytes(wanted.data.size() * dtype_bytes(dtype) + 1), values(wanted) {
    for (size_t i = 0; i < wanted.data.size(); ++i) {
      float one[1];
      store_float(one, dtype, 0, wanted.data[i]);
      memcpy(bytes.data() + 1 + i * dtype_bytes(dtype), one, dtype_bytes(dtype));
      values.data[i] = load_float(one, dtype, 0);
    }
    view = {bytes.data() + 1, dtype, wanted.rows, wanted.cols, "weight"};
  }
};

Array random_array(Random& random, size_t rows, size_t cols, float scale = 1, float mean = 0) {
  return {rows, cols, random.bells(rows * cols, scale, mean)};
}

// Zeros of both signs, subnormals, the ends of the range; with `wild`, also infinities and NaNs of all kinds.
void sprinkle(Random& random, Array* x, bool wild, size_t one_in) {
  const uint32_t tame[] = {0u, 0x80000000u, 1u, 0x80000001u, 0x007fffffu, 0x00400000u, 0x33800000u, 0x00800000u};
  const uint32_t harsh[] = {0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0xff800000u, 0x7fc00000u,
                            0xffc00001u, 0x7f800001u, 0x60000000u, 0xe0000000u};
  for (float& value : x->data) {
    if (random.below(one_in) != 0) continue;
    value = bits_float(wild && random.below(2) ? harsh[random.below(9)] : tame[random.below(8)]);
  }
}

// ---- embed, gather, add, download, extract -------------------------------------------------------

void embed_widens_rows_of_the_table() {
  Random random(11);
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const auto& [vocab, cols] : {std::pair<size_t, size_t>{1, 1}, {33, 7}, {64, 32}, {31, 100}}) {
        const Weight table(random_array(random, vocab, cols), dtype);
        const Matrix packed = path.backend->pack(table.view, never);
        std::vector<uint32_t> tokens;
        for (size_t i = 0; i < 40; ++i) tokens.push_back(static_cast<uint32_t>(random.below(vocab)));
        tokens.push_back(static_cast<uint32_t>(vocab - 1));
        Activations out(*path.backend, tokens.size(), cols);
        path.ops->embed(packed, tokens.data(), out.rows);
        Array expected(tokens.size(), cols);
        for (size_t i = 0; i < tokens.size(); ++i)
          std::copy(table.values.row(tokens[i]), table.values.row(tokens[i]) + cols, expected.row(i));
        hold_same(out, expected, text("embed ", path.name, " ", name_of(dtype), " ", vocab, "x", cols));
      }
}

void gather_add_and_download_copy_and_add() {
  Random random(12);
  for (Path& path : paths())
    for (const size_t cols : {1, 15, 16, 17, 33, 100}) {
      Array x = random_array(random, 9, cols, 1e20f), y = random_array(random, 9, cols, 1e20f, 3e19f);
      sprinkle(random, &x, true, 5);
      sprinkle(random, &y, true, 5);
      const Activations xs(*path.backend, x), ys(*path.backend, y);
      const std::vector<uint32_t> rows{0, 3, 4, 8};
      Activations gathered(*path.backend, rows.size(), cols);
      path.ops->gather(xs.rows, rows.data(), gathered.rows);
      Array expected(rows.size(), cols), sum = x;
      for (size_t i = 0; i < rows.size(); ++i) std::copy(x.row(rows[i]), x.row(rows[i]) + cols, expected.row(i));
      hold_same(gathered, expected, text("gather ", path.name, " ", cols));
      const std::shared_ptr<Buffer> buffer = path.backend->upload(x.row(3), cols * sizeof(float));
      const auto downloaded = path.ops->download(buffer, cols * sizeof(float));
      CHECK(memcmp(downloaded->wait(), x.row(3), cols * sizeof(float)) == 0, path.name, " ", cols);
      path.ops->add(xs.rows, ys.rows);
      for (size_t i = 0; i < x.data.size(); ++i) sum.data[i] = x.data[i] + y.data[i];
      hold_same(xs, sum, text("add ", path.name, " ", cols));
    }
}

// ---- rmsnorm -------------------------------------------------------------------------------------

void rmsnorm_is_32_chains_and_a_halving_tree() {
  Random random(13);
  std::vector<size_t> sizes{1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 1000, 2049};
  for (Path& path : paths())
    for (const size_t size : sizes)
      for (const bool wild : {false, true}) {
        const float eps = size % 2 ? 1e-5f : 1e-6f;
        Array x = random_array(random, 5, size, size % 3 == 0 ? 1e-3f : 8.0f, size % 2 ? 2.0f : 0.0f);
        if (wild) sprinkle(random, &x, true, 40);
        std::fill(x.row(1), x.row(2), 0.0f);  // only eps is left
        for (size_t i = 0; i < size; ++i) x.at(2, i) = bits_float(1 + static_cast<uint32_t>(random.below(1000)));
        if (wild) std::fill(x.row(3), x.row(4), 1e30f);  // the sum of squares overflows
        const std::vector<float> weight = random.bells(size, 0.5f, 1.0f);
        const Activations xs(*path.backend, x);
        Activations out(*path.backend, x.rows, size);
        path.ops->rmsnorm(xs.rows, weight.data(), eps, out.rows);
        const Array expected = reference::rmsnorm(x, weight.data(), eps);
        const std::string what = text("rmsnorm ", path.name, " ", size, wild ? " wild" : "");
        hold_same(out, expected, what);
        path.ops->rmsnorm(xs.rows, weight.data(), eps, xs.rows);  // in place
        hold_same(xs, expected, what + " in place");
        if (wild) continue;
        hold_near(
            expected,
            [&](size_t i, size_t j, double* bound) {
              double sum = 0;
              for (size_t k = 0; k < size; ++k) sum += static_cast<double>(x.at(i, k)) * x.at(i, k);
              const double value =
                  static_cast<double>(x.at(i, j)) * weight[j] / std::sqrt(sum / static_cast<double>(size) + eps);
              // Half of what a chain of size / 32 and the tree may lose, then division, sum, root, inverse, products.
              *bound = (static_cast<double>(size) / 64 + 3 + 6) * kUnit * std::fabs(value) + 0x1p-148;
              return value;
            },
            what);
      }
}

// ---- matmul --------------------------------------------------------------------------------------

void hold_matmul(Path& path, const Array& x, const Weight& w, bool finite) {
  const std::string what =
      text("matmul ", path.name, " ", name_of(w.view.dtype), " ", x.rows, "x", x.cols, "x", w.view.rows);
  const Matrix packed = path.backend->pack(w.view, never);
  CHECK(packed.num_outputs == w.view.rows && packed.num_inputs == w.view.cols && packed.dtype == w.view.dtype, what);
  const Activations xs(*path.backend, x);
  Activations out(*path.backend, x.rows, w.view.rows);
  path.ops->matmul(xs.rows, packed, out.rows);
  const Array expected = reference::matmul(x, w.values);
  hold_same(out, expected, what);
  if (!finite) return;
  hold_near(
      expected,
      [&](size_t i, size_t j, double* bound) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < x.cols; ++k) {
          const double product = static_cast<double>(x.at(i, k)) * w.values.at(j, k);
          sum += product, size += std::fabs(product);
        }
        *bound = static_cast<double>(x.cols) * (kUnit * 1.01 * size + 0x1p-150);  // one rounding a step
        return sum;
      },
      what);
}

void matmul_is_one_chain_an_output() {
  Random random(14);
  struct Shape {
    size_t rows, inputs, outputs;
  };
  std::vector<Shape> shapes{{1, 1, 1},
                            {1, 1, 33},
                            {2, 3, 31},
                            {3, 31, 32},
                            {4, 32, 65},
                            {5, 33, 16},
                            {6, 7, 17},
                            {7, 100, 96},
                            {11, 17, 40},
                            {12, 64, 64},
                            {13, 50, 33},
                            {25, 9, 100},
                            {1, 1023, 5},
                            {2, 1024, 33},
                            {13, 1025, 7},
                            {1, 2049, 34},
                            {5, 3100, 3},
                            // blocks of inputs, groups of panels, weights widened beforehand
                            {47, 20, 33},
                            {48, 12, 33},
                            {49, 511, 65},
                            {50, 513, 129},
                            {61, 1025, 290}};
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const Shape& s : shapes) {
        if (quick() && s.rows * s.inputs * s.outputs > 20000) continue;
        const bool mean = s.inputs % 2;  // a mean that lets the sum grow, so that rounding matters
        const Array x = random_array(random, s.rows, s.inputs, 1, mean ? 0.75f : 0);
        const Weight w(random_array(random, s.outputs, s.inputs, 0.5f, mean ? 0.25f : 0), dtype);
        hold_matmul(path, x, w, true);
      }
}

void matmul_splits_over_tasks() {
  Random random(15);
  if (quick())
    return hold_matmul(paths()[0], random_array(random, 5, 33, 1), Weight(random_array(random, 99, 33), Dtype::f32),
                       true);
  for (Path& path : paths())
    hold_matmul(path, random_array(random, 37, 600, 1, 0.5f), Weight(random_array(random, 333, 600), Dtype::bf16),
                true);
}

void matmul_of_extreme_values() {
  Random random(16);
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const bool wild : {false, true}) {
        Array x = random_array(random, 50, 40, wild ? 1e30f : 1e-38f),
              w = random_array(random, 45, 40, wild ? 100.0f : 1e-5f);
        if (wild) {
          sprinkle(random, &x, true, 9);
          sprinkle(random, &w, false, 5);
          if (dtype != Dtype::f16) w.at(3, 3) = w.at(40, 7) = 1e38f;
        }
        for (size_t k = 0; k < 40; ++k) x.at(2, k) = -0.0f, w.at(5, k) = k % 2 ? -0.0f : 0.0f;
        hold_matmul(path, x, Weight(w, dtype), !wild);  // not wild: results are subnormal or vanish
      }
}

// 1 * w + 0 is w: each instruction set's own widening, for every finite half and every bf16.
void matmul_widens_every_pattern() {
  for (Path& path : paths())
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
      const uint32_t exponent = dtype == Dtype::f16 ? 0x7c00u : 0x7f80u;
      std::vector<uint16_t> patterns;
      for (uint32_t h = 0; h < 0x10000u; h += quick() ? 13 : 1)
        if ((h & exponent) != exponent) patterns.push_back(static_cast<uint16_t>(h));
      const TensorView view{patterns.data(), dtype, patterns.size(), 1, "weight"};
      const Activations one(*path.backend, Array(1, 1, {1.0f}));
      Activations out(*path.backend, 1, patterns.size());
      path.ops->matmul(one.rows, path.backend->pack(view, never), out.rows);
      for (size_t i = 0; i < patterns.size(); ++i) {
        const float w = dtype == Dtype::f16 ? widen_f16(patterns[i]) : widen_bf16(patterns[i]);
        CHECK(float_bits(out.rows.data[i]) == float_bits(w + 0.0f), path.name, " ", name_of(dtype), " ", patterns[i]);
      }
    }
}

// ---- K and V cache -------------------------------------------------------------------------------

struct Cache {
  std::unique_ptr<Buffer> k_buffer, v_buffer;
  size_t k_bytes = 0, v_bytes = 0;
  KvView view;

  Cache(Backend& backend, size_t kv_heads, size_t head_dim, Dtype dtype, size_t capacity) {
    Config config;
    config.num_kv_heads = kv_heads, config.head_dim = head_dim;
    view = backend.kv_layout(config, dtype, capacity, &k_bytes, &v_bytes);
    k_buffer = backend.allocate(k_bytes);
    v_buffer = backend.allocate(v_bytes);
    view.k = k_buffer->data();
    view.v = v_buffer->data();
  }
  // Bytes that the layout addresses for `capacity` positions lie inside the buffers, each once.
  void put(const Array& k, const Array& v) {
    for (size_t slot = 0; slot < k.rows; ++slot) put_row(k, v, slot, slot);
  }
  void put_row(const Array& k, const Array& v, size_t row, size_t slot) {
    for (size_t i = 0; i < k.cols; ++i) {
      const size_t head = i / view.head_dim, dim = i % view.head_dim;
      store_float(view.k, view.dtype, kv_index(view.k_layout, slot, head, dim), k.at(row, i));
      store_float(view.v, view.dtype, kv_index(view.v_layout, slot, head, dim), v.at(row, i));
    }
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all(static_cast<uint8_t*>(view.k), static_cast<uint8_t*>(view.k) + k_bytes);
    all.insert(all.end(), static_cast<uint8_t*>(view.v), static_cast<uint8_t*>(view.v) + v_bytes);
    return all;
  }
};

Array all_stored(Array x, Dtype dtype) {
  for (float& value : x.data) value = reference::stored(value, dtype);
  return x;
}

void extract_gathers_our_own_cache() {
  Random random(17);
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const auto& [heads, dim] : {std::pair<size_t, size_t>{1, 8}, {3, 10}, {2, 80}}) {
        const size_t slots = 71, bytes = dtype_bytes(dtype);
        Cache cache(*path.backend, heads, dim, dtype, slots);
        const Array k = random_array(random, slots, heads * dim), v = random_array(random, slots, heads * dim, 1, 1);
        cache.put(k, v);
        const std::vector<uint32_t> positions{0, 1, 30, 31, 32, 33, 64, 70};
        std::vector<uint8_t> ks(positions.size() * cache.view.row_bytes() + 1, 0xa5), vs = ks;
        path.ops->extract(cache.view, positions.data(), positions.size(), ks.data(), vs.data());
        CHECK(ks.back() == 0xa5 && vs.back() == 0xa5);
        for (size_t i = 0; i < positions.size(); ++i)
          for (size_t j = 0; j < heads * dim; ++j) {
            const size_t at = i * heads * dim + j;
            CHECK(same(load_float(ks.data(), dtype, at), reference::stored(k.at(positions[i], j), dtype)), path.name,
                  " ", bytes);
            CHECK(same(load_float(vs.data(), dtype, at), reference::stored(v.at(positions[i], j), dtype)), path.name,
                  " ", bytes);
          }
      }
}

// ---- rope_kv -------------------------------------------------------------------------------------

struct RopeCase {
  size_t rows, heads, kv_heads, head_dim;
  bool bias, norm, wild, with_q, with_k;
};

void hold_rope_kv(Path& path, Random& random, const RopeCase& s, Dtype dtype) {
  const std::string what =
      text("rope_kv ", path.name, " ", name_of(dtype), " ", s.rows, " rows, ", s.heads, "/", s.kv_heads, " heads of ",
           s.head_dim, s.bias ? " bias" : "", s.norm ? " norm" : "", s.wild ? " wild" : "");
  const size_t half = s.head_dim / 2, q_size = s.heads * s.head_dim, kv_size = s.kv_heads * s.head_dim, first_slot = 5;
  Array q = random_array(random, s.rows, q_size, 3, 0.5f), k = random_array(random, s.rows, kv_size, 3, -0.5f),
        v = random_array(random, s.rows, kv_size, 2, 0.25f);
  if (s.wild)
    for (Array* x : {&q, &k, &v}) sprinkle(random, x, true, 15);
  const std::vector<float> q_bias = random.bells(q_size), k_bias = random.bells(kv_size),
                           v_bias = random.bells(kv_size), q_norm = random.bells(s.head_dim, 1, 1),
                           k_norm = random.bells(s.head_dim, 1, 1);
  std::vector<float> cosines, sines;
  for (size_t i = 0; i < s.rows * half; ++i) {
    double sine, cosine;
    sincos64(static_cast<double>(random.unit()) * 100, &sine, &cosine);
    cosines.push_back(static_cast<float>(cosine)), sines.push_back(static_cast<float>(sine));
  }
  Cache cache(*path.backend, s.kv_heads, s.head_dim, dtype, first_slot + s.rows + 3);
  memset(cache.view.k, 0x5a, cache.k_bytes);
  memset(cache.view.v, 0x5a, cache.v_bytes);

  const Activations qs(*path.backend, q), ks(*path.backend, k), vs(*path.backend, v);
  RopeKvArgs args = {};
  if (s.with_q) args.q = qs.rows;
  if (s.with_k) args.k = ks.rows, args.v = vs.rows;
  if (s.bias) args.q_bias = q_bias.data(), args.k_bias = k_bias.data(), args.v_bias = v_bias.data();
  if (s.norm) args.q_norm = q_norm.data(), args.k_norm = k_norm.data();
  args.eps = 1e-6f;
  args.cosines = cosines.data(), args.sines = sines.data();
  args.cache = cache.view;
  std::vector<uint32_t> slots;
  for (size_t i = 0; i < s.rows; ++i) slots.push_back(static_cast<uint32_t>(first_slot + i));
  args.slots = slots.data();
  // Every second row is sampled, in descending order.
  const size_t num_samples = (s.rows + 1) / 2, sample_bytes = num_samples * cache.view.row_bytes();
  std::vector<int32_t> samples(s.rows, -1);
  for (size_t i = 0; i < s.rows; i += 2) samples[i] = static_cast<int32_t>(num_samples - 1 - i / 2);
  std::vector<uint8_t> sampled_k(sample_bytes + 1, 0xa5), sampled_v = sampled_k;
  args.samples = samples.data();
  args.sampled_k = sampled_k.data(), args.sampled_v = sampled_v.data();
  path.ops->rope_kv(args);

  const Array q_before = q, k_before = k;
  for (size_t i = 0; i < s.rows; ++i) {
    const float *c = cosines.data() + i * half, *d = sines.data() + i * half;
    reference::rotate_row(q.row(i), s.heads, s.head_dim, args.q_bias, args.q_norm, args.eps, c, d);
    reference::rotate_row(k.row(i), s.kv_heads, s.head_dim, args.k_bias, args.k_norm, args.eps, c, d);
    for (size_t j = 0; s.bias && j < kv_size; ++j) v.at(i, j) += v_bias[j];
  }
  hold_same(qs, s.with_q ? q : q_before, what + " q");
  // The cache holds exactly what the contract says, NaN included, and nothing else changed in it.
  Cache expected(*path.backend, s.kv_heads, s.head_dim, dtype, first_slot + s.rows + 3);
  memset(expected.view.k, 0x5a, expected.k_bytes);
  memset(expected.view.v, 0x5a, expected.v_bytes);
  for (size_t i = 0; s.with_k && i < s.rows; ++i)
    for (size_t j = 0; j < kv_size; ++j) {
      const size_t head = j / s.head_dim, dim = j % s.head_dim;
      store_float(expected.view.k, dtype, kv_index(expected.view.k_layout, first_slot + i, head, dim), k.at(i, j));
      store_float(expected.view.v, dtype, kv_index(expected.view.v_layout, first_slot + i, head, dim), v.at(i, j));
    }
  CHECK(cache.bytes() == expected.bytes(), what);
  std::vector<uint8_t> expected_k(sample_bytes + 1, 0xa5), expected_v = expected_k;
  for (size_t i = 0; s.with_k && i < s.rows; i += 2)
    for (size_t j = 0; j < kv_size; ++j) {
      const size_t at = static_cast<size_t>(samples[i]) * kv_size + j;
      store_float(expected_k.data(), dtype, at, k.at(i, j));
      store_float(expected_v.data(), dtype, at, v.at(i, j));
    }
  CHECK(sampled_k == expected_k && sampled_v == expected_v, what, " samples");

  if (s.wild) return;
  const Array& x = k_before;
  hold_near(
      k,
      [&](size_t i, size_t j, double* bound) {
        const size_t head = j / s.head_dim * s.head_dim, dim = j % s.head_dim, at = dim % half;
        std::vector<double> h;
        double squares = 0, size = 0;
        for (size_t d = 0; d < s.head_dim; ++d) {
          h.push_back(static_cast<double>(x.at(i, head + d)) + (s.bias ? k_bias[head + d] : 0));
          size = std::max(size, std::fabs(static_cast<double>(x.at(i, head + d))) +
                                    (s.bias ? std::fabs(k_bias[head + d]) : 0));
          squares += h[d] * h[d];
        }
        double gain = 1;
        if (s.norm) {
          const double scale = 1 / std::sqrt(squares / static_cast<double>(s.head_dim) + static_cast<double>(args.eps));
          for (size_t d = 0; d < s.head_dim; ++d) h[d] *= scale * k_norm[d];
          gain = scale * 3;  // weights are below 3
        }
        const double c = cosines[i * half + at], d = sines[i * half + at];
        *bound = (8 + static_cast<double>(s.head_dim)) * kUnit * size * gain * 2;
        return dim < half ? h[at] * c - h[at + half] * d : h[at + half] * c + h[at] * d;
      },
      what);
}

void rope_kv_rotates_and_writes() {
  Random random(18);
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const bool wild : {false, true}) {
        hold_rope_kv(path, random, {1, 1, 1, 2, false, false, wild, true, true}, dtype);
        hold_rope_kv(path, random, {7, 4, 2, 10, true, false, wild, true, true}, dtype);
        hold_rope_kv(path, random, {33, 8, 1, 16, false, true, wild, true, true}, dtype);
        hold_rope_kv(path, random, {3, 6, 6, 80, true, true, wild, true, true}, dtype);
        hold_rope_kv(path, random, {5, 2, 1, 128, false, true, wild, false, true}, dtype);
        hold_rope_kv(path, random, {4, 3, 1, 64, true, false, wild, true, false}, dtype);
        if (!quick()) hold_rope_kv(path, random, {70, 16, 8, 64, true, true, wild, true, true}, dtype);
      }
}

// ---- attention -----------------------------------------------------------------------------------

struct AttentionCase {
  size_t rows, heads, kv_heads, head_dim, first_position, window;
  std::vector<size_t> shared_ends = {};  // keys up to them stand elsewhere
};

size_t kv_page(const Backend& backend) {
  Config config;
  config.num_kv_heads = 1, config.head_dim = 8;
  size_t k_bytes, v_bytes;
  return backend.kv_layout(config, Dtype::f32, 1, &k_bytes, &v_bytes).page_slots();
}

void hold_attention(Path& path, Random& random, const AttentionCase& s, Dtype dtype, bool wild) {
  const std::string what = text("attention ", path.name, " ", name_of(dtype), " ", s.rows, " rows from ",
                                s.first_position, ", ", s.heads, "/", s.kv_heads, " heads of ", s.head_dim, ", window ",
                                s.window, ", ", s.shared_ends.size(), " shared runs", wild ? " wild" : "");
  const size_t keys = s.first_position + s.rows, kv_size = s.kv_heads * s.head_dim;
  Array q = random_array(random, s.rows, s.heads * s.head_dim, 3), k = random_array(random, keys, kv_size, 2, 0.125f),
        v = random_array(random, keys, kv_size, 1, 0.5f);
  if (wild) {
    sprinkle(random, &q, true, 200);
    sprinkle(random, &k, true, 900);
    sprinkle(random, &v, true, 300);
    std::fill(k.row(keys / 2), k.row(keys / 2) + kv_size, 50.0f);  // scores far apart: weights vanish
  }
  k = all_stored(k, dtype), v = all_stored(v, dtype);
  // Own keys first, then each shared run behind an unused page.
  const size_t page = kv_page(*path.backend), border = s.shared_ends.empty() ? 0 : s.shared_ends.back();
  size_t capacity = (keys - border + page - 1) / page * page + page;
  std::vector<SharedKeys> runs;
  for (const size_t end : s.shared_ends) {
    const size_t begin = runs.empty() ? 0 : runs.back().end;
    runs.push_back({end, capacity - begin});
    capacity += end - begin + page;
  }
  Cache cache(*path.backend, s.kv_heads, s.head_dim, dtype, capacity);
  memset(cache.view.k, 0xff, cache.k_bytes);  // NaN in slots that no row may see
  memset(cache.view.v, 0xff, cache.v_bytes);
  for (size_t key = 0; key < keys; ++key) {
    size_t slot = key - border;
    for (size_t run = runs.size(); run-- > 0;)
      if (key < runs[run].end) slot = runs[run].first_slot + key;
    cache.put_row(k, v, key, slot);
  }
  const Activations qs(*path.backend, q);
  Activations out(*path.backend, s.rows, q.cols);
  const Segment segment{0, q.rows, s.first_position, size_t{0} - border, runs.data(), runs.size()};
  path.ops->attention({qs.rows, out.rows, cache.view, &segment, 1, s.window});
  const Array expected = reference::attention(q, k, v, s.head_dim, s.first_position, s.window);
  hold_same(out, expected, what);
  if (wild) return;

  std::vector<double> weights;
  double sum = 0, slack = 0;
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  hold_near(
      expected,
      [&](size_t i, size_t j, double* bound) {
        const size_t head = j / s.head_dim * s.head_dim, dim = j % s.head_dim, position = s.first_position + i;
        const size_t column = j / s.head_dim / (s.heads / s.kv_heads) * s.head_dim;
        const size_t first = s.window && position + 1 > s.window ? position + 1 - s.window : 0;
        if (dim == 0) {  // once a head
          double top = -1e300;
          weights.clear(), sum = slack = 0;
          for (size_t key = first; key <= position; ++key) {
            double score = 0, size = 0;
            for (size_t d = 0; d < s.head_dim; ++d) {
              const double product = static_cast<double>(q.at(i, head + d)) * k.at(key, column + d);
              score += product, size += std::fabs(product);
            }
            weights.push_back(score * scale);
            slack = std::max(slack, (static_cast<double>(s.head_dim) + 4) * kUnit * size * scale);
            top = std::max(top, score * scale);
          }
          for (double& w : weights) sum += w = std::exp(w - top);
        }
        double value = 0, size = 0;
        for (size_t key = first; key <= position; ++key) {
          value += weights[key - first] / sum * v.at(key, column + dim);
          size += weights[key - first] / sum * std::fabs(v.at(key, column + dim));
        }
        // Each weight is off by at most 2 * slack and an ulp of exp, numerator and denominator alike; then one
        // rounding a key in both chains, and the division.
        const double count = static_cast<double>(weights.size());
        *bound = (4 * slack + (2 * count + 8) * kUnit) * size * 1.1 + count * 0x1p-149;
        return value;
      },
      what);
}

void attention_is_exact_maximum_and_two_chains() {
  Random random(19);
  std::vector<AttentionCase> cases{{1, 1, 1, 8, 0, 0},
                                   {1, 4, 1, 16, 31, 0},
                                   {1, 8, 1, 64, 32, 0},
                                   {1, 2, 2, 80, 100, 0},
                                   {13, 4, 4, 16, 0, 0},
                                   {25, 8, 2, 8, 0, 0},
                                   {12, 8, 1, 10, 33, 0},
                                   {11, 2, 1, 80, 64, 0},
                                   {5, 4, 1, 128, 29, 0},
                                   {3, 2, 1, 256, 17, 0},
                                   {6, 3, 3, 64, 63, 0},
                                   {4, 1, 1, 16, 96, 0},
                                   {70, 2, 1, 16, 0, 1},
                                   {70, 2, 1, 16, 0, 2},
                                   {70, 2, 1, 16, 0, 31},
                                   {40, 2, 2, 16, 30, 33},
                                   {40, 4, 2, 8, 0, 1000},
                                   {1, 2, 1, 16, 200, 31},
                                   {1, 2, 1, 16, 64, 1},
                                   {13, 2, 1, 16, 50, 7},
                                   {30, 2, 1, 16, 31, 12},
                                   {30, 2, 1, 16, 33, 32},
                                   {30, 2, 1, 16, 32, 0, {32}},
                                   {13, 4, 1, 80, 100, 0, {32, 96}},
                                   {40, 2, 2, 16, 64, 40, {32, 64}},
                                   {1, 8, 1, 64, 70, 0, {64}},
                                   {1, 40, 2, 16, 90, 0},  // more heads of one KV head than a tile has rows
                                   {1, 21, 3, 8, 75, 40},
                                   {1, 24, 2, 64, 100, 0, {32, 64}},
                                   {30, 2, 1, 16, 64, 7, {64}}};
  for (Path& path : paths())
    for (const Dtype dtype : kDtypes)
      for (const AttentionCase& s : cases) {
        if (quick() && dtype != kDtypes[s.rows % 3]) continue;
        hold_attention(path, random, s, dtype, false);
        hold_attention(path, random, s, dtype, true);
      }
}

void attention_splits_over_tasks() {
  if (quick()) return;
  Random random(20);
  for (Path& path : paths()) {
    hold_attention(path, random, {67, 8, 2, 32, 150, 0}, Dtype::bf16, false);
    hold_attention(path, random, {67, 8, 2, 32, 150, 90}, Dtype::f16, false);
    hold_attention(path, random, {2, 4, 1, 16, 1500, 0}, Dtype::f32, false);
    hold_attention(path, random, {67, 8, 2, 32, 160, 90, {64, 160}}, Dtype::bf16, false);
  }
}

// ---- swiglu --------------------------------------------------------------------------------------

void swiglu_is_silu_times_up() {
  Random random(21);
  for (Path& path : paths())
    for (const size_t cols : {1, 15, 16, 17, 100, 129})
      for (const bool wild : {false, true}) {
        Array gate = random_array(random, 6, cols, wild ? 60.0f : 8.0f), up = random_array(random, 6, cols, 2, 0.5f);
        if (wild) {
          sprinkle(random, &gate, true, 4);
          sprinkle(random, &up, true, 4);
          gate.at(0, 0) = -88.5f, gate.at(1, 0) = -104.0f, gate.at(2, 0) = kInf, gate.at(3, 0) = -kInf;
        }
        const Activations gates(*path.backend, gate), ups(*path.backend, up);
        path.ops->swiglu(gates.rows, ups.rows);
        Array expected = gate;
        for (size_t i = 0; i < gate.data.size(); ++i) expected.data[i] = reference::swiglu(gate.data[i], up.data[i]);
        const std::string what = text("swiglu ", path.name, " ", cols, wild ? " wild" : "");
        hold_same(gates, expected, what);
        hold_same(ups, up, what + " up");
        if (wild) continue;
        hold_near(
            expected,
            [&](size_t i, size_t j, double* bound) {
              const double g = gate.at(i, j), value = g / (1 + std::exp(-g)) * up.at(i, j);
              *bound = 5 * kUnit * std::fabs(value) + 0x1p-149;  // exp 2, then sum, division, product
              return value;
            },
            what);
      }
}

}  // namespace

int main() {
  RUN(embed_widens_rows_of_the_table);
  RUN(gather_add_and_download_copy_and_add);
  RUN(rmsnorm_is_32_chains_and_a_halving_tree);
  RUN(matmul_is_one_chain_an_output);
  RUN(matmul_splits_over_tasks);
  RUN(matmul_of_extreme_values);
  RUN(matmul_widens_every_pattern);
  RUN(extract_gathers_our_own_cache);
  RUN(rope_kv_rotates_and_writes);
  RUN(attention_is_exact_maximum_and_two_chains);
  RUN(attention_splits_over_tasks);
  RUN(swiglu_is_silu_times_up);
  return result();
}
