// The border between the addon and libpoc_cuda.so, which is opened at first use: plain structs and function
// pointers, no exception and no library type crosses it. Both sides are built from one source tree; the
// versions are compared when the module is opened.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../core/backend.h"

namespace poc::cuda {

constexpr uint32_t kAbiVersion = 2;
constexpr const char* kEntryName = "poc_cuda_api";
constexpr size_t kMaxHeadDim = 256;  // that there are kernels for

// What a failed call says; texts are cut to fit.
struct AbiError {
  char code[32], message[512], where[128], expected[128], received[128];
};

struct AbiDevice {
  char name[128];
  int major, minor, multiprocessors;
  size_t memory_bytes;
};

struct AbiMatrix {
  const void* data;
  Dtype dtype;
  size_t num_outputs, num_inputs;
};

// Whether the caller wants the work to stop.
struct AbiCancel {
  int (*asked)(const void* context);
  const void* context;
};

struct AbiBackend;  // one model's memory, streams and uploads on one device
struct AbiRun;      // the ops of one run
struct AbiDownload;

// Every function that can fail returns 0, or 1 with `error` filled in.
struct Api {
  uint32_t abi_version, struct_size;
  const char* version;  // of the package
  const char* targets;  // GPU architectures in the file

  // Devices that can be used; `reason`: why there is none, or the versions in use.
  int (*devices)(AbiDevice* out, int capacity, int* count, char* reason, size_t reason_size);

  int (*open)(int device, AbiBackend** out, AbiError* error);
  void (*close)(AbiBackend*);
  int (*allocate)(AbiBackend*, size_t bytes, void** data, AbiError*);  // zeroed
  int (*upload)(AbiBackend*, const void* host, size_t bytes, void** data, AbiError*);
  void (*free)(AbiBackend*, void* data);
  int (*pack)(AbiBackend*, const TensorView*, const AbiCancel*, void** data, AbiError*);
  int (*widen)(AbiBackend*, const TensorView*, void** data, AbiError*);
  int (*finish_weights)(AbiBackend*, AbiError*);
  size_t (*packed_bytes)(size_t num_outputs, size_t num_inputs, Dtype);
  size_t (*row_stride)(size_t cols);
  KvView (*kv_layout)(size_t num_kv_heads, size_t head_dim, Dtype, size_t capacity, size_t* k_bytes, size_t* v_bytes);

  int (*begin)(AbiBackend*, const AbiCancel*, AbiRun** out, AbiError*);
  void (*end)(AbiRun*);
  int (*embed)(AbiRun*, const AbiMatrix* table, const uint32_t* tokens, Rows out, AbiError*);
  int (*gather)(AbiRun*, Rows x, const uint32_t* rows, Rows out, AbiError*);
  int (*rope_table)(AbiRun*, const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions,
                    float* cosines, float* sines, AbiError*);
  int (*rmsnorm)(AbiRun*, Rows x, const float* weight, float eps, Rows out, AbiError*);
  int (*matmul)(AbiRun*, Rows x, const AbiMatrix* w, Rows out, AbiError*);
  int (*rope_kv)(AbiRun*, const RopeKvArgs*, AbiError*);
  int (*attention)(AbiRun*, const AttentionArgs*, AbiError*);
  int (*swiglu)(AbiRun*, Rows gate, Rows up, AbiError*);
  int (*add)(AbiRun*, Rows x, Rows y, AbiError*);
  int (*extract)(AbiRun*, const KvView* cache, const uint32_t* positions, size_t num_positions, void* k, void* v,
                 AbiError*);
  int (*download)(AbiRun*, const void* data, size_t bytes, AbiDownload** out, AbiError*);
  int (*wait)(AbiDownload*, const void** host, AbiError*);
  void (*release)(AbiDownload*);

  // Bytes from `data` to the end of the device allocation it lies in; 0: not memory of the device.
  size_t (*bytes_behind)(int device, const void* data);
};

using Entry = const Api* (*)(uint32_t abi_version);

}  // namespace poc::cuda
