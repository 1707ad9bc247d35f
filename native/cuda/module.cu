// The module's one export: the table of functions of abi.h, each a guarded call of what stands below it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include "abi.h"
#include "address_range.h"
#include "run.h"

#ifndef POC_CUDA_TARGETS
#define POC_CUDA_TARGETS "emulated"
#endif

namespace poc::cuda {

struct AbiBackend : DeviceBackend {
  using DeviceBackend::DeviceBackend;
};
struct AbiRun : Run {
  using Run::Run;
};
struct AbiDownload : DeviceDownload {
  using DeviceDownload::DeviceDownload;
};

namespace {

template <size_t N>
void put(char (&to)[N], const std::string& text) {
  snprintf(to, N, "%s", text.c_str());
}

// Calls f on the backend's device; an exception becomes 1 and the error's texts.
template <class F>
int guarded(int device, AbiError* error, F f) {
  try {
    cudaGetLastError();  // of an earlier call that had nobody to tell
    check(cudaSetDevice(device), "choose a device");
    f();
    return 0;
  } catch (const Error& e) {
    put(error->code, e.code);
    put(error->message, e.what());
    put(error->where, e.where);
    put(error->expected, e.expected);
    put(error->received, e.received);
  } catch (const std::bad_alloc&) {
    *error = {};
    put(error->code, "OUT_OF_MEMORY");
    put(error->message, "Out of memory");
  } catch (const std::exception& e) {
    *error = {};
    put(error->code, "INTERNAL");
    put(error->message, e.what());
  }
  return 1;
}

// As guarded, for an op: queues it and asks whether it could be launched.
template <class F>
int queued(AbiRun* run, AbiError* error, F f) {
  return guarded(run->backend().device, error, [&] {
    f(run->queue());
    check(cudaGetLastError(), "launch a kernel");
  });
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int devices(AbiDevice* out, int capacity, int* count, char* reason, size_t reason_size) {
  *count = 0;
  int driver = 0, runtime = 0, found = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const std::string versions = "driver CUDA " + version_text(driver) + ", built for " + version_text(runtime);
  const cudaError_t error = cudaGetDeviceCount(&found);
  if (error != cudaSuccess || found == 0) {
    cudaGetLastError();
    const std::string text = error == cudaSuccess ? "no device" : cudaGetErrorString(error);
    snprintf(reason, reason_size, "%s (%s)", text.c_str(), versions.c_str());
    return 1;
  }
  snprintf(reason, reason_size, "%s", versions.c_str());
  for (int i = 0; i < std::min(found, capacity); ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) break;
    AbiDevice& device = out[(*count)++];
    put(device.name, properties.name);
    device.major = properties.major;
    device.minor = properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory_bytes = properties.totalGlobalMem;
  }
  return 0;
}

int open(int device, AbiBackend** out, AbiError* error) {
  return guarded(device, error, [&] {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "ask for a device's properties");
    if (properties.major < 8)
      throw Error("BACKEND_UNAVAILABLE", std::string(properties.name) + " is older than compute capability 8.0",
                  "device", "compute capability 8.0 or later",
                  std::to_string(properties.major) + "." + std::to_string(properties.minor));
    *out = new AbiBackend(device);
  });
}

void close(AbiBackend* backend) {
  cudaSetDevice(backend->device);
  cudaStreamSynchronize(backend->compute.get());
  cudaStreamSynchronize(backend->downloads.get());
  delete backend;
}

int allocate(AbiBackend* b, size_t bytes, void** data, AbiError* error) {
  return guarded(b->device, error, [&] { *data = b->allocate(bytes); });
}
int upload(AbiBackend* b, const void* host, size_t bytes, void** data, AbiError* error) {
  return guarded(b->device, error, [&] { *data = b->upload(host, bytes); });
}
void free_memory(AbiBackend* b, void* data) {
  cudaSetDevice(b->device);
  b->memory.give_back(data);
}
int pack_weight(AbiBackend* b, const TensorView* weight, const AbiCancel* cancel, void** data, AbiError* error) {
  return guarded(b->device, error, [&] { *data = b->weights.pack(*weight, *cancel); });
}
int widen_weight(AbiBackend* b, const TensorView* weight, void** data, AbiError* error) {
  return guarded(b->device, error, [&] { *data = b->weights.widen(*weight); });
}
int finish_weights(AbiBackend* b, AbiError* error) {
  return guarded(b->device, error, [&] { b->weights.finish(); });
}

size_t packed_bytes(size_t num_outputs, size_t num_inputs, Dtype dtype) {
  return size_t{ceil_div(num_outputs, kPanel)} * kPanel * num_inputs * dtype_bytes(dtype);
}
size_t row_stride(size_t cols) { return (cols + 31) / 32 * 32; }

KvView kv_layout(size_t heads, size_t dim, Dtype dtype, size_t capacity, size_t* k_bytes, size_t* v_bytes) {
  const size_t slots = std::max<size_t>(1, ceil_div(capacity, kPageSlots)) * kPageSlots;
  const size_t padded = (dim + kValuePad - 1) / kValuePad * kValuePad;
  *k_bytes = slots * heads * dim * dtype_bytes(dtype);
  *v_bytes = slots * heads * padded * dtype_bytes(dtype);
  KvView view;
  view.k_layout = {kPageSlots, kPageSlots * heads * dim, 1, kPageSlots * dim, kPageSlots};
  view.v_layout = {slots, heads * slots * padded, padded, slots * padded, 1};
  view.dtype = dtype;
  view.num_kv_heads = heads;
  view.head_dim = dim;
  return view;
}

int begin(AbiBackend* b, const AbiCancel* cancel, AbiRun** out, AbiError* error) {
  return guarded(b->device, error, [&] { *out = new AbiRun(*b, *cancel); });
}
void end(AbiRun* run) {
  cudaSetDevice(run->backend().device);
  delete run;
}

MatrixView view(const AbiMatrix* m) { return {m->data, m->dtype, m->num_outputs, m->num_inputs}; }

int run_embed(AbiRun* r, const AbiMatrix* table, const uint32_t* tokens, Rows out, AbiError* error) {
  return queued(r, error, [&](Queue q) { embed(q, view(table), tokens, out); });
}
int run_gather(AbiRun* r, Rows x, const uint32_t* rows, Rows out, AbiError* error) {
  return queued(r, error, [&](Queue q) { gather(q, x, rows, out); });
}
int run_rope_table(AbiRun* r, const float* frequencies, size_t half, const uint32_t* positions, size_t num_positions,
                   float* cosines, float* sines, AbiError* error) {
  return queued(r, error, [&](Queue q) { rope_table(q, frequencies, half, positions, num_positions, cosines, sines); });
}
int run_rmsnorm(AbiRun* r, Rows x, const float* weight, float eps, Rows out, AbiError* error) {
  return queued(r, error, [&](Queue q) { rmsnorm(q, x, weight, eps, out); });
}
int run_matmul(AbiRun* r, Rows x, const AbiMatrix* w, Rows out, AbiError* error) {
  return queued(r, error, [&](Queue q) { matmul(q, x, view(w), out); });
}
int run_rope_kv(AbiRun* r, const RopeKvArgs* args, AbiError* error) {
  return queued(r, error, [&](Queue q) { rope_kv(q, *args); });
}
int run_attention(AbiRun* r, const AttentionArgs* args, AbiError* error) {
  return queued(r, error, [&](Queue q) { attention(q, *args); });
}
int run_swiglu(AbiRun* r, Rows gate, Rows up, AbiError* error) {
  return queued(r, error, [&](Queue q) { swiglu(q, gate, up); });
}
int run_add(AbiRun* r, Rows x, Rows y, AbiError* error) {
  return queued(r, error, [&](Queue q) { add(q, x, y); });
}
int run_extract(AbiRun* r, const KvView* cache, const uint32_t* positions, size_t num_positions, void* k, void* v,
                AbiError* error) {
  return queued(r, error, [&](Queue q) {
    if (k) extract(q, cache->k, cache->k_layout, *cache, positions, num_positions, k);
    if (v) extract(q, cache->v, cache->v_layout, *cache, positions, num_positions, v);
  });
}

int download(AbiRun* r, const void* data, size_t bytes, AbiDownload** out, AbiError* error) {
  return guarded(r->backend().device, error, [&] {
    r->queue();
    *out = new AbiDownload(*r, data, bytes);
  });
}
int wait(AbiDownload* d, const void** host, AbiError* error) {
  return guarded(d->run().backend().device, error, [&] { *host = d->wait(); });
}
void release(AbiDownload* d) {
  cudaSetDevice(d->run().backend().device);
  delete d;
}

// From the driver's own record of the allocation, so that a wrong pointer is refused instead of read.
size_t bytes_behind(int device, const void* data) {
  if (cudaSetDevice(device) != cudaSuccess) return 0;
  return allocation_bytes_behind(data);
}

const Api kApi = {kAbiVersion,    sizeof(Api),  POC_VERSION,    POC_CUDA_TARGETS, devices,     open,
                  close,          allocate,     upload,         free_memory,      pack_weight, widen_weight,
                  finish_weights, packed_bytes, row_stride,     kv_layout,        begin,       end,
                  run_embed,      run_gather,   run_rope_table, run_rmsnorm,      run_matmul,  run_rope_kv,
                  run_attention,  run_swiglu,   run_add,        run_extract,      download,    wait,
                  release,        bytes_behind};

}  // namespace
}  // namespace poc::cuda

extern "C" __attribute__((visibility("default"))) const poc::cuda::Api* poc_cuda_api(uint32_t abi_version) {
  return abi_version == poc::cuda::kAbiVersion ? &poc::cuda::kApi : nullptr;
}
