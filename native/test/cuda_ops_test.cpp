// Every CUDA op by itself on the emulated device, bit for bit against reference.h, under every schedule of
// copies, streams and threads.
#include <algorithm>
#include <array>
#include <numeric>

#include "../core/backend.h"
#include "../cuda/module_backend.h"
#include "../emulator/emulator.h"
#include "check.h"
#include "reference.h"

extern "C" const poc::cuda::Api* poc_cuda_api(uint32_t abi_version);

using namespace poc;
using namespace poc::test;
using reference::Array;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint32_t kGuard = 0x7fd1dead;  // a NaN that no op makes
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
const char* name_of(Dtype dtype) { return dtype == Dtype::f32 ? "f32" : dtype == Dtype::f16 ? "f16" : "bf16"; }

const std::atomic<bool> never{false};

struct Device {
  Random random{1};
  const char* schedule;
  size_t turn;  // the schedule's number: tests take another dtype each turn
  std::shared_ptr<Backend> backend = cuda::make_backend(*poc_cuda_api(cuda::kAbiVersion), 0);
  std::unique_ptr<Ops> ops = backend->ops(never);

  Device(const char* name, size_t number) : schedule(name), turn(number) {}
  template <class T>
  std::shared_ptr<Buffer> put(const std::vector<T>& values) {
    return backend->upload(values.data(), values.size() * sizeof(T));
  }
  template <class T>
  std::vector<T> get(const std::shared_ptr<Buffer>& buffer, size_t count) {
    std::vector<T> out(count);
    const auto download = ops->download(buffer, count * sizeof(T));
    memcpy(out.data(), download->wait(), count * sizeof(T));
    return out;
  }
};

template <class T = float>
T* at(const std::shared_ptr<Buffer>& buffer) {
  return buffer ? static_cast<T*>(buffer->data()) : nullptr;
}

// Runs f on a new device for each schedule; quick ones are lazy only, which most bugs cannot hide from.
template <class F>
void under_every_schedule(F f) {
  using emulator::Schedule;
  struct Case {
    const char* name;
    Schedule schedule;
    uint64_t seed;
  };
  size_t turn = 0;
  for (const Case& c : {Case{"lazy", Schedule::kLazy, 0}, Case{"eager", Schedule::kEager, 0},
                        Case{"random 1", Schedule::kRandom, 1}, Case{"random 2", Schedule::kRandom, 2}}) {
    if (quick() && turn > 0) break;
    emulator::reset();
    emulator::options().schedule = c.schedule;
    emulator::options().seed = c.seed;
    Device device(c.name, turn++);
    f(device);
  }
}

// Activations in device memory. What pads a row, and one row beyond the last, is the guard: reading it would
// show, and no op writes it.
struct Activations {
  Device& device;
  std::shared_ptr<Buffer> buffer;
  Rows rows;

  Activations(Device& on, const Array& values) : device(on) {
    const size_t stride = on.backend->row_stride(values.cols);
    std::vector<float> all((values.rows + 1) * stride, bits_float(kGuard));
    for (size_t i = 0; i < values.rows; ++i)
      std::copy(values.row(i), values.row(i) + values.cols, all.begin() + static_cast<long>(i * stride));
    buffer = on.put(all);
    rows = {at(buffer), values.rows, values.cols, stride};
  }
  Activations(Device& on, size_t num_rows, size_t cols) : Activations(on, filled(num_rows, cols)) {}

  static Array filled(size_t num_rows, size_t cols) {
    return {num_rows, cols, std::vector<float>(num_rows * cols, bits_float(kGuard))};
  }
  void hold(const Array& expected, const std::string& what) const {
    CHECK(rows.rows == expected.rows && rows.cols == expected.cols, what);
    const std::vector<float> got = device.get<float>(buffer, (rows.rows + 1) * rows.stride);
    size_t bad = got.size();
    for (size_t i = got.size(); i-- > 0;) {
      const size_t row = i / rows.stride, col = i % rows.stride;
      const bool inside = row < rows.rows && col < rows.cols;
      if (inside ? !same(got[i], expected.at(row, col)) : float_bits(got[i]) != kGuard) bad = i;
    }
    CHECK(bad == got.size(), what, ", ", device.schedule, ": row ", bad / rows.stride, ", column ", bad % rows.stride);
  }
};

Array random_array(Random& random, size_t rows, size_t cols, float scale = 1, float mean = 0) {
  return {rows, cols, random.bells(rows * cols, scale, mean)};
}

// Zeros of both signs, subnormals, huge values, infinities and NaNs of all kinds.
void sprinkle(Random& random, Array* x, size_t one_in) {
  const uint32_t values[] = {0u,          0x80000000u, 1u,          0x007fffffu, 0x00800000u, 0x7f7fffffu,
                             0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc00001u, 0x7f800001u, 0xe0000000u};
  for (float& value : x->data)
    if (random.below(one_in) == 0) value = bits_float(values[random.below(12)]);
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

Matrix packed(Device& device, const Weight& w) {
  const Matrix matrix = device.backend->pack(w.view, never);
  device.backend->finish_weights();
  return matrix;
}

// ---- embed, gather, add, swiglu, rope_table, rmsnorm ---------------------------------------------

void hold_embed(Device& device, const Weight& table, const std::vector<uint32_t>& tokens) {
  const Matrix matrix = packed(device, table);
  Activations out(device, tokens.size(), table.values.cols);
  const auto tokens_there = device.put(tokens);
  device.ops->embed(matrix, at<uint32_t>(tokens_there), out.rows);
  Array expected(tokens.size(), table.values.cols);
  for (size_t i = 0; i < tokens.size(); ++i)
    std::copy(table.values.row(tokens[i]), table.values.row(tokens[i]) + expected.cols, expected.row(i));
  out.hold(expected, text("embed ", name_of(table.view.dtype), " ", table.values.rows, "x", table.values.cols));
}

void gather_add_and_swiglu_go_by_element(Device& device) {
  for (const size_t cols : {1, 31, 32, 33, 255, 256, 257, 600}) {
    Array x = random_array(device.random, 9, cols, 12), y = random_array(device.random, 9, cols, 2, 0.5f);
    sprinkle(device.random, &x, 7);
    sprinkle(device.random, &y, 7);
    x.at(0, 0) = -88.5f, x.at(1, 0) = -104.0f, x.at(2, 0) = kInf, x.at(3, 0) = -kInf;
    const std::vector<uint32_t> picked{0, 3, 4, 8, 3};
    Activations xs(device, x), gates(device, x), ys(device, y), out(device, picked.size(), cols);
    const auto picked_there = device.put(picked);
    device.ops->gather(xs.rows, at<uint32_t>(picked_there), out.rows);
    device.ops->add(xs.rows, ys.rows);
    device.ops->swiglu(gates.rows, ys.rows);
    Array gathered(picked.size(), cols), sum = x, gated = x;
    for (size_t i = 0; i < picked.size(); ++i) std::copy(x.row(picked[i]), x.row(picked[i]) + cols, gathered.row(i));
    for (size_t i = 0; i < x.data.size(); ++i) {
      sum.data[i] = x.data[i] + y.data[i];
      gated.data[i] = reference::swiglu(x.data[i], y.data[i]);
    }
    out.hold(gathered, text("gather ", cols));
    xs.hold(sum, text("add ", cols));
    gates.hold(gated, text("swiglu ", cols));
    ys.hold(y, text("up ", cols));
  }
}

void rope_table_has_the_reference_s_angles(Device& device) {
  for (const size_t half : {1, 5, 64, 65}) {
    std::vector<float> frequencies;
    for (size_t i = 0; i < half; ++i) frequencies.push_back(1.0f / static_cast<float>(1 + i * i));
    const Vector there = device.backend->widen({frequencies.data(), Dtype::f32, 1, half, "frequencies"});
    device.backend->finish_weights();
    std::vector<uint32_t> positions{0, 1, 2, 1000000, 3};
    for (uint32_t i = 0; i < 40; ++i) positions.push_back(i * 977);
    const size_t count = positions.size() * half;
    const auto positions_there = device.put(positions);
    const auto table = device.put(std::vector<float>(2 * count + 1, bits_float(kGuard)));
    device.ops->rope_table(there, at<uint32_t>(positions_there), positions.size(), at(table), at(table) + count);
    const std::vector<float> got = device.get<float>(table, 2 * count + 1);
    const std::vector<float> expected = reference::rope_table(frequencies, positions.data(), positions.size());
    CHECK(memcmp(got.data(), expected.data(), 2 * count * sizeof(float)) == 0, device.schedule, " ", half);
    CHECK(float_bits(got.back()) == kGuard, device.schedule, " ", half);
  }
}

void rmsnorm_is_32_chains_and_a_halving_tree(Device& device) {
  for (const size_t size : {1, 2, 31, 32, 33, 64, 65, 127, 1000, 2049})
    for (const size_t rows : {1, 4, 5}) {
      Array x = random_array(device.random, rows, size, size % 3 == 0 ? 1e-3f : 8.0f, size % 2 ? 2.0f : 0.0f);
      if (rows > 1) {
        std::fill(x.row(1), x.row(2), 0.0f);   // only eps is left
        std::fill(x.row(2), x.row(3), 1e30f);  // the sum of squares overflows
        for (size_t i = 0; i < size; ++i) x.at(3, i) = bits_float(1 + static_cast<uint32_t>(device.random.below(1000)));
      }
      if (rows == 5) sprinkle(device.random, &x, 50);
      const std::vector<float> weight = device.random.bells(size, 0.5f, 1.0f);
      const auto weight_there = device.put(weight);
      Activations xs(device, x), out(device, rows, size);
      device.ops->rmsnorm(xs.rows, at(weight_there), 1e-5f, out.rows);
      device.ops->rmsnorm(xs.rows, at(weight_there), 1e-5f, xs.rows);
      const Array expected = reference::rmsnorm(x, weight.data(), 1e-5f);
      out.hold(expected, text("rmsnorm ", rows, "x", size));
      xs.hold(expected, text("rmsnorm in place ", rows, "x", size));
    }
}

// ---- pack and matmul -----------------------------------------------------------------------------

void hold_matmul(Device& device, const Array& x, const Weight& w) {
  const Matrix matrix = packed(device, w);
  Activations xs(device, x), out(device, x.rows, w.values.rows);
  device.ops->matmul(xs.rows, matrix, out.rows);
  out.hold(reference::matmul(x, w.values),
           text("matmul ", name_of(w.view.dtype), " ", x.rows, "x", x.cols, "x", w.values.rows));
}

// All shapes under every schedule, each time in another dtype. The mean lets sums grow, so that rounding matters.
void matmul_is_one_chain_an_output(Device& device) {
  size_t number = device.turn;
  for (const size_t rows : {1, 2, 16, 17, 32, 33, 127, 128, 129, 200})
    for (const size_t outputs : {1, 31, 128, 129, 200})
      for (const size_t inputs : {1, 3, 16, 17, 63, 64, 65, 200}) {
        const Dtype dtype = kDtypes[number++ % 3];
        if (quick() && number % 23 != 1) continue;
        const Weight w(random_array(device.random, outputs, inputs, 0.5f, 0.25f), dtype);
        hold_matmul(device, random_array(device.random, rows, inputs, 1, 0.75f), w);
      }
}

// Every slot of the pipelines is filled more than once; some sums overflow, vanish or meet a NaN.
void matmul_of_long_and_wild_rows(Device& device) {
  for (const Dtype dtype : kDtypes)
    for (const size_t rows : {5, 40}) {
      const Weight w(random_array(device.random, 40, quick() ? 330 : 1111, 0.5f, 0.25f), dtype);
      Array x = random_array(device.random, rows, w.values.cols, 1, 0.5f);
      sprinkle(device.random, &x, 5000);
      std::fill(x.row(2), x.row(3), -0.0f);
      std::fill(x.row(3), x.row(4), 1e-44f);
      std::fill(x.row(4), x.row(5), 1e38f);
      hold_matmul(device, x, w);
    }
}

// Every row of a packed matrix, whatever the tiles of pack leave over, and the last one twice.
void embed_widens_rows_of_what_pack_made(Device& device) {
  for (const Dtype dtype : kDtypes)
    for (const auto& [rows, cols] : {std::pair<size_t, size_t>{1, 1},
                                     {1, 33},
                                     {33, 1},
                                     {127, 31},
                                     {128, 32},
                                     {129, 65},
                                     {31, 127},
                                     {257, 5},
                                     {5, 257}}) {
      std::vector<uint32_t> all(rows + 1, static_cast<uint32_t>(rows - 1));
      std::iota(all.begin() + 1, all.end(), 0u);
      hold_embed(device, Weight(random_array(device.random, rows, cols), dtype), all);
    }
}

// Larger than both upload buffers, so that they are filled again while copies are queued.
void pack_goes_through_its_buffers_in_turn(Device& device) {
  const size_t rows = 70, cols = 100000;
  if (device.turn > 1) return;
  Weight table(Array(rows, cols), Dtype::f32);
  for (size_t i = 0; i < rows * cols; ++i) table.values.data[i] = static_cast<float>(i % 1000003);
  memcpy(table.bytes.data() + 1, table.values.data.data(), rows * cols * sizeof(float));
  hold_embed(device, table, {0, 19, 20, 21, 41, 42, 69});
}

// The last panel's outputs behind the matrix count as zero weights.
void the_last_panel_is_cleared(Device& device) {
  for (const Dtype dtype : kDtypes) {
    const Weight w(random_array(device.random, 130, 9), dtype);
    const Matrix matrix = packed(device, w);
    const size_t bytes = device.backend->packed_bytes(130, 9, dtype), value = dtype_bytes(dtype);
    const std::vector<uint8_t> got = device.get<uint8_t>(matrix.buffer, bytes);
    CHECK(bytes == 256 * 9 * value);
    size_t not_zero = 0;
    for (size_t k = 0; k < 9; ++k)
      for (size_t i = 2 * value; i < 128 * value; ++i) not_zero += got[(128 * 9 + k * 128) * value + i] != 0;
    CHECK(not_zero == 0, device.schedule, " ", name_of(dtype), " ", not_zero);
  }
}

void pack_finds_what_is_not_finite(Device& device) {
  for (const Dtype dtype : kDtypes)
    for (const float bad : {kInf, -kInf, std::nanf("")}) {
      Array values(33, 40);
      values.data[device.random.below(33 * 40)] = bad;
      const std::string error = error_of([&] { packed(device, Weight(values, dtype)); });
      CHECK(error == "MODEL_NON_FINITE weight", device.schedule, " ", name_of(dtype), " ", bad, ": ", error);
    }
}

// A buffer is dropped while a queued op still reads it; weights, which have their own stream, come next.
void memory_given_back_is_not_written_early(Device& device) {
  const Array x = random_array(device.random, 3, 1024);
  const std::vector<uint32_t> picked{2, 0};
  Activations out(device, 2, 1024);
  {
    const Activations xs(device, x);
    device.ops->gather(xs.rows, at<uint32_t>(device.put(picked)), out.rows);
  }
  const Array weights = random_array(device.random, 128, 32), y = random_array(device.random, 2, 32);
  const Matrix w = packed(device, Weight(weights, Dtype::f32));
  const Activations ys(device, y), product(device, 2, 128);
  device.ops->matmul(ys.rows, w, product.rows);
  product.hold(reference::matmul(y, weights), "weights in memory given back");
  Array expected(2, 1024);
  std::copy(x.row(2), x.row(3), expected.row(0));
  std::copy(x.row(0), x.row(1), expected.row(1));
  out.hold(expected, "gather of dropped rows");
}

void new_memory_is_zero(Device& device) {
  for (int round = 0; round < 2; ++round) {  // fresh, then given back full of other bytes
    std::shared_ptr<Buffer> buffer = device.backend->allocate(5000);
    CHECK(device.get<uint8_t>(buffer, 5000) == std::vector<uint8_t>(5000, 0));
    buffer.reset();
    device.get<uint8_t>(device.put(std::vector<uint8_t>(5000, 0xa5)), 5000);
  }
}

// ---- our own cache -------------------------------------------------------------------------------

// K and V as they are written on the host; unseen slots hold what the constructor filled in.
struct Cache {
  KvView view;
  std::vector<uint8_t> k, v;
  std::shared_ptr<Buffer> k_there, v_there;

  Cache(Device& device, size_t kv_heads, size_t head_dim, Dtype dtype, size_t capacity, uint8_t fill) {
    Config config;
    config.num_kv_heads = kv_heads, config.head_dim = head_dim;
    size_t k_bytes = 0, v_bytes = 0;
    view = device.backend->kv_layout(config, dtype, capacity, &k_bytes, &v_bytes);
    k.assign(k_bytes, fill), v.assign(v_bytes, fill);
  }
  void write(size_t slot, const float* k_row, const float* v_row) {
    for (size_t i = 0; i < view.num_kv_heads * view.head_dim; ++i) {
      const size_t head = i / view.head_dim, dim = i % view.head_dim;
      store_float(k.data(), view.dtype, kv_index(view.k_layout, slot, head, dim), k_row[i]);
      store_float(v.data(), view.dtype, kv_index(view.v_layout, slot, head, dim), v_row[i]);
    }
  }
  void upload(Device& device) {
    k_there = device.put(k), v_there = device.put(v);
    view.k = k_there->data(), view.v = v_there->data();
  }
  void hold(Device& device, const std::string& what) {
    CHECK(device.get<uint8_t>(k_there, k.size()) == k, what, " k, ", device.schedule);
    CHECK(device.get<uint8_t>(v_there, v.size()) == v, what, " v, ", device.schedule);
  }
};

struct RopeCase {
  size_t rows, heads, kv_heads, head_dim;
  bool bias, norm, wild, with_q, with_kv, with_cache, with_samples;
};

struct RopeInput {
  Array q, k, v;
  std::vector<float> q_bias, k_bias, v_bias, q_norm, k_norm, cosines, sines;
  std::vector<uint32_t> slots;   // no two rows' alike, and no row's own number
  std::vector<int32_t> samples;  // every second row, in descending order
  size_t num_samples;

  RopeInput(Random& random, const RopeCase& s) {
    const size_t q_size = s.heads * s.head_dim, kv_size = s.kv_heads * s.head_dim, half = s.head_dim / 2;
    q = random_array(random, s.rows, q_size, 3, 0.5f), k = random_array(random, s.rows, kv_size, 3, -0.5f);
    v = random_array(random, s.rows, kv_size, 2, 0.25f);
    if (s.wild)
      for (Array* x : {&q, &k, &v}) sprinkle(random, x, 15);
    if (s.bias) q_bias = random.bells(q_size), k_bias = random.bells(kv_size), v_bias = random.bells(kv_size);
    if (s.norm) q_norm = random.bells(s.head_dim, 1, 1), k_norm = random.bells(s.head_dim, 1, 1);
    cosines = random.bells(s.rows * half, 0.5f), sines = random.bells(s.rows * half, 0.5f);
    for (size_t i = 0; i < s.rows; ++i) slots.push_back(static_cast<uint32_t>(5 + (i * 3 + 1) % s.rows));
    num_samples = (s.rows + 1) / 2;
    samples.assign(s.rows, -1);
    for (size_t i = 0; i < s.rows; i += 2) samples[i] = static_cast<int32_t>(num_samples - 1 - i / 2);
  }

  // q, k and v become what the op makes of them.
  void rotate(const RopeCase& s, float eps) {
    const auto data = [](const std::vector<float>& x) { return x.empty() ? nullptr : x.data(); };
    for (size_t i = 0; i < s.rows; ++i) {
      const float *c = cosines.data() + i * s.head_dim / 2, *d = sines.data() + i * s.head_dim / 2;
      if (s.with_q) reference::rotate_row(q.row(i), s.heads, s.head_dim, data(q_bias), data(q_norm), eps, c, d);
      reference::rotate_row(k.row(i), s.kv_heads, s.head_dim, data(k_bias), data(k_norm), eps, c, d);
      for (size_t j = 0; j < v_bias.size(); ++j) v.at(i, j) += v_bias[j];
    }
  }
};

void hold_rope_kv(Device& device, const RopeCase& s, Dtype dtype) {
  const std::string what = text("rope_kv ", name_of(dtype), " ", s.rows, " rows, ", s.heads, "/", s.kv_heads,
                                " heads of ", s.head_dim, s.bias ? " bias" : "", s.norm ? " norm" : "");
  RopeInput in(device.random, s);
  Cache cache(device, s.kv_heads, s.head_dim, dtype, s.rows + 9, 0x5a);
  cache.upload(device);
  const Activations q(device, in.q), k(device, in.k), v(device, in.v);
  std::vector<std::shared_ptr<Buffer>> kept;  // of vectors that the op is given, null where there are none
  const auto there = [&](const auto& values) {
    kept.push_back(values.empty() ? nullptr : device.put(values));
    return kept.back();
  };
  std::vector<uint8_t> k_samples(in.num_samples * cache.view.row_bytes() + 1, 0xa5), v_samples = k_samples;
  RopeKvArgs args = {};
  if (s.with_q) args.q = q.rows;
  if (s.with_kv) args.k = k.rows, args.v = v.rows;
  args.q_bias = at(there(in.q_bias)), args.k_bias = at(there(in.k_bias)), args.v_bias = at(there(in.v_bias));
  args.q_norm = at(there(in.q_norm)), args.k_norm = at(there(in.k_norm)), args.eps = 1e-6f;
  args.cosines = at(there(in.cosines)), args.sines = at(there(in.sines));
  args.cache = cache.view;
  if (!s.with_cache) args.cache.k = args.cache.v = nullptr;
  args.slots = at<uint32_t>(there(in.slots));
  if (s.with_samples) args.samples = at<int32_t>(there(in.samples));
  const auto k_sampled = there(k_samples), v_sampled = there(v_samples);
  args.sampled_k = k_sampled->data(), args.sampled_v = v_sampled->data();
  device.ops->rope_kv(args);

  in.rotate(s, args.eps);
  q.hold(in.q, what + " q");
  for (size_t i = 0; s.with_kv && i < s.rows; ++i) {
    if (s.with_cache) cache.write(in.slots[i], in.k.row(i), in.v.row(i));
    for (size_t j = 0; s.with_samples && in.samples[i] >= 0 && j < in.k.cols; ++j) {
      const size_t to = static_cast<size_t>(in.samples[i]) * in.k.cols + j;
      store_float(k_samples.data(), dtype, to, in.k.at(i, j));
      store_float(v_samples.data(), dtype, to, in.v.at(i, j));
    }
  }
  cache.hold(device, what);
  CHECK(device.get<uint8_t>(k_sampled, k_samples.size()) == k_samples, what, " sampled k, ", device.schedule);
  CHECK(device.get<uint8_t>(v_sampled, v_samples.size()) == v_samples, what, " sampled v, ", device.schedule);
}

void rope_kv_rotates_and_writes(Device& device) {
  for (const Dtype dtype : kDtypes)
    for (const bool wild : {false, true}) {
      hold_rope_kv(device, {1, 1, 1, 2, false, false, wild, true, true, true, true}, dtype);
      hold_rope_kv(device, {7, 4, 2, 10, true, false, wild, true, true, true, true}, dtype);
      hold_rope_kv(device, {32, 8, 1, 16, false, true, wild, true, true, true, false}, dtype);
      hold_rope_kv(device, {4, 6, 6, 80, true, true, wild, true, true, true, true}, dtype);
      hold_rope_kv(device, {5, 3, 1, 128, false, true, wild, false, true, true, true}, dtype);
      hold_rope_kv(device, {4, 3, 1, 64, true, false, wild, true, false, true, true}, dtype);
      hold_rope_kv(device, {5, 2, 2, 66, true, true, wild, true, true, false, true}, dtype);
      hold_rope_kv(device, {70, 2, 1, 256, true, true, wild, true, true, true, true}, dtype);
    }
}

// ---- attention -----------------------------------------------------------------------------------

struct AttentionCase {
  size_t heads, kv_heads, head_dim, window;
  std::vector<std::array<size_t, 2>> sequences;  // rows and first position of each
  std::vector<size_t> shared_ends = {};          // keys up to them stand elsewhere; of each sequence that comes so far
};

// Scores far apart, so that weights vanish, and values that no chain should meet out of turn.
void make_wild(Random& random, Array* q, Array* k, Array* v) {
  sprinkle(random, q, 400);
  sprinkle(random, k, 2000);
  sprinkle(random, v, 400);
  std::fill(k->row(k->rows / 2), k->row(k->rows / 2) + k->cols, 50.0f);
}

// Sequences stand in the cache in descending order with an empty page between; NaN in all slots nobody may see.
void hold_attention(Device& device, const AttentionCase& s, Dtype dtype, bool wild) {
  const size_t kv_size = s.kv_heads * s.head_dim, q_size = s.heads * s.head_dim;
  std::vector<Segment> segments;
  std::vector<std::vector<SharedKeys>> shared(s.sequences.size());
  size_t rows = 0, capacity = 0;
  for (const auto& [count, first] : s.sequences)
    capacity += (count + first + 63) / 64 * 64 + 64 * (1 + s.shared_ends.size());
  Cache cache(device, s.kv_heads, s.head_dim, dtype, capacity, 0xff);
  Array all_q(0, q_size), expected(0, q_size);
  for (const auto& [count, first] : s.sequences) {
    const size_t keys = count + first;
    std::vector<SharedKeys>& runs = shared[segments.size()];
    size_t begin = 0;
    for (const size_t end : s.shared_ends) {
      if (end > first) break;
      capacity -= end - begin + 64;
      runs.push_back({end, capacity - begin});
      begin = end;
    }
    capacity -= (keys - begin + 63) / 64 * 64 + 64;
    segments.push_back({rows, count, first, capacity - begin, runs.data(), runs.size()});
    Array q = random_array(device.random, count, q_size, 3), k = random_array(device.random, keys, kv_size, 2, 0.125f),
          v = random_array(device.random, keys, kv_size, 1, 0.5f);
    if (wild) make_wild(device.random, &q, &k, &v);
    for (float& x : k.data) x = reference::stored(x, dtype);
    for (float& x : v.data) x = reference::stored(x, dtype);
    for (size_t key = 0; key < keys; ++key) {
      size_t slot = capacity - begin + key;
      for (size_t run = runs.size(); run-- > 0;)
        if (key < runs[run].end) slot = runs[run].first_slot + key;
      cache.write(slot, k.row(key), v.row(key));
    }
    const Array out = reference::attention(q, k, v, s.head_dim, first, s.window);
    all_q.data.insert(all_q.data.end(), q.data.begin(), q.data.end());
    expected.data.insert(expected.data.end(), out.data.begin(), out.data.end());
    rows += count;
  }
  all_q.rows = expected.rows = rows;
  cache.upload(device);
  const Activations q(device, all_q), out(device, rows, q_size);
  device.ops->attention({q.rows, out.rows, cache.view, segments.data(), segments.size(), s.window});
  out.hold(expected, text("attention ", name_of(dtype), " ", rows, " rows of ", segments.size(), " segments, ", s.heads,
                          "/", s.kv_heads, " heads of ", s.head_dim, ", window ", s.window, wild ? " wild" : ""));
}

void attention_of_every_head_dim_and_group(Device& device) {
  size_t number = device.turn;
  for (const size_t head_dim : {2, 8, 10, 64, 80, 128, 256})
    for (const auto& [heads, kv_heads] : {std::pair<size_t, size_t>{2, 2}, {4, 1}, {16, 2}}) {
      const Dtype dtype = kDtypes[number++ % 3];
      if (quick() && number % 2 == 0) continue;
      const size_t first = head_dim % 3 * 40, rows = quick() ? 6 : 70;
      hold_attention(device, {heads, kv_heads, head_dim, 0, {{rows, first}}}, dtype, false);
      hold_attention(device, {heads, kv_heads, head_dim, 0, {{1, 100}}}, dtype, true);
    }
}

void attention_of_chunks_windows_and_sequences(Device& device) {
  size_t number = device.turn;
  for (const AttentionCase& s : {AttentionCase{2, 1, 16, 0, {{65, 0}}},
                                 {2, 1, 16, 0, {{64, 64}}},
                                 {2, 1, 16, 0, {{130, 63}}},
                                 {2, 1, 16, 1, {{70, 0}}},
                                 {2, 1, 16, 2, {{70, 0}}},
                                 {2, 2, 16, 33, {{40, 30}}},
                                 {4, 2, 8, 100, {{80, 150}}},
                                 {2, 1, 8, 1000, {{40, 0}}},
                                 {1, 1, 8, 65, {{1, 300}}},
                                 {2, 1, 64, 0, {{3, 0}, {64, 1}, {1, 0}, {66, 70}}},
                                 {2, 1, 80, 5, {{70, 10}, {1, 64}, {5, 63}}},
                                 {2, 1, 16, size_t{1} << 31, {{20, 0}}}})
    for (const bool wild : {false, true}) {
      hold_attention(device, s, kDtypes[number++ % 3], wild);
      if (!quick()) hold_attention(device, s, kDtypes[number % 3], wild);
    }
}

// More than one launch takes.
void attention_of_many_sequences(Device& device) {
  AttentionCase s{2, 1, 8, 0, {}};
  for (size_t i = 0; i < 150; ++i) s.sequences.push_back({1, i % 70});
  hold_attention(device, s, kDtypes[device.turn % 3], false);
}

void attention_of_shared_keys(Device& device) {
  size_t number = device.turn;
  for (const AttentionCase& s : {AttentionCase{2, 1, 16, 0, {{30, 64}}, {64}},
                                 {2, 1, 16, 0, {{67, 150}}, {64, 128}},
                                 {2, 1, 64, 0, {{3, 0}, {66, 64}, {2, 200}, {1, 192}}, {64, 192}},
                                 {2, 2, 80, 70, {{70, 64}, {5, 140}}, {64, 128}},
                                 {1, 1, 256, 9, {{70, 64}}, {64}}})
    for (const bool wild : {false, true}) hold_attention(device, s, kDtypes[number++ % 3], wild);
  // More runs, then more segments, than one launch takes.
  AttentionCase many{2, 1, 8, 0, {}, {64, 128}};
  for (size_t i = 0; i < 40; ++i) many.sequences.push_back({1, 130 + i % 70});
  for (size_t i = 0; i < 70; ++i) many.sequences.push_back({1, i % 70});
  hold_attention(device, many, kDtypes[device.turn % 3], false);
}

// ---- extract -------------------------------------------------------------------------------------

// A cache as another engine has it. Inside a page, axes from the outermost: s slot, h head, d dim, or g and e for
// a group of dims and a dim in it.
struct Foreign {
  KvLayout layout;
  std::vector<uint8_t> bytes;
  std::vector<size_t> index;  // of (page, slot, head, dim); found by walking through memory, not by strides
};

Foreign foreign(Random& random, const std::string& axes, size_t pages, size_t size, size_t heads, size_t dim,
                size_t split, Dtype dtype, size_t shift) {
  const size_t pad = random.below(2) ? 16 / dtype_bytes(dtype) : 1;  // whole words for the dims that lie in a row
  const auto extent = [&](char axis) {
    if (axis == 'd' || axis == 'e') return ((axis == 'd' ? dim : split) + pad - 1) / pad * pad;
    return axis == 's' ? size : axis == 'h' ? heads : dim / split;
  };
  Foreign cache;
  size_t stride = 1;
  for (size_t i = axes.size(); i-- > 0; stride *= extent(axes[i])) {
    if (axes[i] == 's') cache.layout.slot_stride = stride;
    if (axes[i] == 'h') cache.layout.head_stride = stride;
    if (axes[i] == 'd' || axes[i] == 'e') cache.layout.dim_stride = stride;
    if (axes[i] == 'g') cache.layout.split_stride = stride, cache.layout.dim_split = split;
  }
  cache.layout.page_size = size, cache.layout.page_stride = stride;
  cache.bytes.resize((pages * stride + shift) * dtype_bytes(dtype));
  for (uint8_t& byte : cache.bytes) byte = static_cast<uint8_t>(random.next());  // NaN patterns too: bits are copied
  cache.index.resize(pages * size * heads * dim);
  for (size_t memory = 0; memory < pages * stride; ++memory) {
    size_t rest = memory, at[128] = {};
    for (size_t i = axes.size(); i-- > 0; rest /= extent(axes[i])) at[size_t(axes[i])] = rest % extent(axes[i]);
    if (at['d'] >= dim || at['e'] >= split) continue;
    const size_t d = at['d'] + at['g'] * split + at['e'];
    cache.index[((rest * size + at['s']) * heads + at['h']) * dim + d] = memory + shift;
  }
  return cache;
}

// `shift`: values between the allocation's begin and the cache's.
void hold_extract(Device& device, const std::string& axes, bool paged, Dtype dtype, size_t shift) {
  const size_t heads = 1 + device.random.below(4), wide = 16 / dtype_bytes(dtype);  // what moves at a time
  const size_t split = device.random.below(2) ? wide : 1 + device.random.below(2 * wide);
  const size_t dim =
      axes.size() == 4 || device.random.below(2) ? split * (1 + device.random.below(5)) : 1 + device.random.below(40);
  const size_t length = 1 + device.random.below(100), size = paged ? 1 + device.random.below(20) : length;
  const size_t used = (length + size - 1) / size, pages = used + (paged ? 2 : 0);
  std::vector<uint32_t> table(pages), positions;
  std::iota(table.begin(), table.end(), 0u);
  for (size_t i = pages; paged && i > 1; --i) std::swap(table[i - 1], table[device.random.below(i)]);
  for (uint32_t p = 0; p < length; ++p)
    if (p + 1 == length || device.random.below(3) == 0) positions.push_back(p);
  Foreign cache = foreign(device.random, axes, pages, size, heads, dim, split, dtype, shift);
  const size_t bytes = dtype_bytes(dtype), total = positions.size() * heads * dim * bytes;
  std::vector<uint8_t> expected(total + 1, 0xa5);
  const auto data = device.put(cache.bytes), out = device.put(expected), where = device.put(positions);
  const auto table_there = device.put(table);
  if (paged) cache.layout.block_table = at<uint32_t>(table_there);
  KvView view{at<char>(data) + shift * bytes, nullptr, cache.layout, cache.layout, dtype, heads, dim};
  std::swap(view.k, device.random.below(2) ? view.k : view.v);
  device.ops->extract(view, at<uint32_t>(where), positions.size(), view.k ? out->data() : nullptr,
                      view.v ? out->data() : nullptr);
  for (size_t i = 0; i < positions.size(); ++i)
    for (size_t j = 0; j < heads * dim; ++j) {
      const size_t page = table[positions[i] / size], slot = positions[i] % size;
      const size_t from = cache.index[(page * size + slot) * heads * dim + j];
      memcpy(expected.data() + (i * heads * dim + j) * bytes, cache.bytes.data() + from * bytes, bytes);
    }
  CHECK(device.get<uint8_t>(out, total + 1) == expected, axes, paged ? " paged " : " ", name_of(dtype), " ",
        positions.size(), " of ", length, "x", heads, "x", dim, ", pages of ", size, ", ", device.schedule);
}

// NHD, HND, transposed V, vLLM's K, and splits of other orders.
void extract_finds_rows_in_every_layout(Device& device) {
  for (const char* axes : {"shd", "hsd", "hds", "dsh", "hgse", "ghse", "sghe", "hges"})
    for (const bool paged : {false, true})
      for (const Dtype dtype : kDtypes)
        for (int round = 0; round < (quick() ? 2 : 4); ++round)
          hold_extract(device, axes, paged, dtype, round % 4 == 1 ? 1 + device.random.below(9) : 0);
}

// ---- cancelling ----------------------------------------------------------------------------------

// All ops of a run that is stopped before they begin leave their outputs as they were.
void a_stopped_run_writes_nothing(Device& device) {
  if (device.turn > 0) return;  // only a lazy device leaves work undone
  const Array x = random_array(device.random, 40, 16);
  const Matrix w = packed(device, Weight(random_array(device.random, 16, 16), Dtype::f32));
  const Vector vector = device.backend->widen({x.data.data(), Dtype::f32, 1, 8, "vector"});
  device.backend->finish_weights();
  Cache cache(device, 1, 16, Dtype::f32, 64, 0x11);
  cache.upload(device);
  const Activations out(device, x), in(device, x), up(device, x);
  const auto numbers = device.put(std::vector<uint32_t>(40, 1));
  const auto bytes = device.put(std::vector<uint8_t>(40 * 64, 0x77));
  const auto table = device.put(device.random.bells(640));
  const Segment segment{0, 40, 0, 0};
  const uint32_t* ones = at<uint32_t>(numbers);

  std::atomic<bool> cancelled{false};
  const auto ops = device.backend->ops(cancelled);  // behind the uploads above, which are still queued
  ops->embed(w, ones, out.rows);
  ops->gather(in.rows, ones, out.rows);
  ops->rope_table(vector, ones, 40, at(bytes), at(bytes) + 320);
  ops->rmsnorm(in.rows, at(table), 1e-5f, out.rows);
  ops->matmul(in.rows, w, out.rows);
  ops->matmul(in.rows.from(0, 1), w, out.rows.from(0, 1));
  ops->rope_kv({out.rows, in.rows, up.rows, nullptr, nullptr, nullptr, nullptr, nullptr, 1e-5f, at(table), at(table),
                cache.view, ones, nullptr, nullptr, nullptr});
  ops->attention({in.rows, out.rows, cache.view, &segment, 1, 0});
  ops->swiglu(out.rows, up.rows);
  ops->add(out.rows, up.rows);
  ops->extract(cache.view, ones, 40, bytes->data(), nullptr);
  cancelled = true;
  CHECK(error_of([&] { ops->add(in.rows, up.rows); }) == "ABORTED");
  out.hold(x, "stopped");
  cache.hold(device, "stopped");
  CHECK(device.get<uint8_t>(bytes, 40 * 64) == std::vector<uint8_t>(40 * 64, 0x77));
}

}  // namespace

// Under every schedule; with an argument only tests whose names contain it.
#define RUN_NAMED(function) \
  if (argc < 2 || strstr(#function, argv[1])) run(#function, [] { under_every_schedule(function); })

int main(int argc, char** argv) {
  RUN_NAMED(gather_add_and_swiglu_go_by_element);
  RUN_NAMED(rope_table_has_the_reference_s_angles);
  RUN_NAMED(rmsnorm_is_32_chains_and_a_halving_tree);
  RUN_NAMED(matmul_is_one_chain_an_output);
  RUN_NAMED(matmul_of_long_and_wild_rows);
  RUN_NAMED(embed_widens_rows_of_what_pack_made);
  RUN_NAMED(pack_goes_through_its_buffers_in_turn);
  RUN_NAMED(the_last_panel_is_cleared);
  RUN_NAMED(pack_finds_what_is_not_finite);
  RUN_NAMED(new_memory_is_zero);
  RUN_NAMED(memory_given_back_is_not_written_early);
  RUN_NAMED(rope_kv_rotates_and_writes);
  RUN_NAMED(attention_of_every_head_dim_and_group);
  RUN_NAMED(attention_of_chunks_windows_and_sequences);
  RUN_NAMED(attention_of_many_sequences);
  RUN_NAMED(attention_of_shared_keys);
  RUN_NAMED(extract_finds_rows_in_every_layout);
  RUN_NAMED(a_stopped_run_writes_nothing);
  return result();
}
