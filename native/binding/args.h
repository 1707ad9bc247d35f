// Reads JS arguments. lib/ has checked them with good messages; here is what memory safety needs.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "../core/choose.h"
#include "../core/config.h"
#include "../core/dtype.h"
#include "../core/sequence.h"
#include "error.h"

namespace poc::binding {

inline Error bad_argument(const std::string& where, const std::string& expected) {
  return wrong_value("INVALID_ARGUMENT", where, expected, "another value");
}

inline double read_number(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsNumber()) throw bad_argument(key, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

// An integer in 0..2^53.
inline size_t read_size(const Napi::Value& value, const char* where) {
  const double x = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(x >= 0 && x <= 9007199254740992.0) || x != static_cast<double>(static_cast<uint64_t>(x)))
    throw bad_argument(where, "a non-negative integer");
  return static_cast<size_t>(x);
}

inline size_t read_size(const Napi::Object& object, const char* key) { return read_size(object.Get(key), key); }

inline std::string read_string(const Napi::Value& value, const char* where) {
  if (!value.IsString()) throw bad_argument(where, "a string");
  return value.As<Napi::String>().Utf8Value();
}

inline Dtype read_dtype(const Napi::Value& value) {
  const std::string name = read_string(value, "dtype");
  if (name == "f32") return Dtype::f32;
  if (name == "f16") return Dtype::f16;
  if (name == "bf16") return Dtype::bf16;
  throw bad_argument("dtype", "f32, f16 or bf16");
}

inline std::vector<uint32_t> read_uint32s(const Napi::Value& value, const char* where) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    throw bad_argument(where, "a Uint32Array");
  const auto array = value.As<Napi::Uint32Array>();
  return std::vector<uint32_t>(array.Data(), array.Data() + array.ElementLength());
}

// Ids of the vocabulary.
std::vector<uint32_t> read_tokens(const Napi::Value& value, const Config& config);

// A Uint8Array of exactly `bytes` bytes that native code writes to; the caller keeps it alive.
inline uint8_t* read_output(const Napi::Value& value, size_t bytes, const char* where) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
      value.As<Napi::Uint8Array>().ByteLength() != bytes)
    throw bad_argument(where, "a Uint8Array of " + std::to_string(bytes) + " bytes");
  return value.As<Napi::Uint8Array>().Data();
}

// As above, a Float64Array of exactly `count` values.
inline double* read_values(const Napi::Value& value, size_t count, const char* where) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      value.As<Napi::Float64Array>().ElementLength() != count)
    throw bad_argument(where, "a Float64Array of " + std::to_string(count) + " values");
  return value.As<Napi::Float64Array>().Data();
}

// layers, counts and positions, flattened: counts[i] positions belong to layers[i], which may be the virtual layer.
SampleRequest read_samples(const Napi::Value& layers, const Napi::Value& counts, const Napi::Value& positions,
                           size_t num_layers, size_t first_position, size_t last_position);

// Bytes of the samples of one layer, or of several.
struct SampleBytes {
  size_t k = 0, v = 0;
};

// Of `num_samples` rows at `layer`: K and V, or at the virtual layer hidden states in the place of K.
SampleBytes sample_bytes(const Config& config, Dtype kv_dtype, size_t layer, size_t num_samples);

// A NativeSampling.
Sampling read_sampling(const Napi::Object& object);

Config read_config(const Napi::Object& object);

}  // namespace poc::binding
