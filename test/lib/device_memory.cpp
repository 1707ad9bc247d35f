// A Node addon for cuda-emulated.test.ts, which builds it: another engine's cache in the memory of a device.
//   upload(path of a CUDA module, Uint8Array): bigint, the address of a copy that is never freed
#include <dlfcn.h>
#include <node_api.h>

#include "../../native/cuda/abi.h"

using namespace poc::cuda;

// The address of a copy that has arrived; null where there is no memory.
static void* copied(const Api& api, const void* host, size_t bytes) {
  static AbiBackend* backend = nullptr;
  const AbiCancel never{[](const void*) { return 0; }, nullptr};
  AbiError error;
  AbiRun* run = nullptr;
  AbiDownload* download = nullptr;
  void* data = nullptr;
  if (!backend && api.open(0, &backend, &error) != 0) return nullptr;
  if (api.upload(backend, host, bytes, &data, &error) != 0) return nullptr;
  // Brought back once, since nothing else waits for an upload.
  const void* arrived = nullptr;
  if (api.begin(backend, &never, &run, &error) != 0) return nullptr;
  if (api.download(run, data, bytes, &download, &error) == 0) {
    if (api.wait(download, &arrived, &error) != 0) arrived = nullptr;
    api.release(download);
  }
  api.end(run);
  return arrived ? data : nullptr;
}

static napi_value upload(napi_env env, napi_callback_info info) {
  size_t count = 2, length = 0, bytes = 0;
  napi_value arguments[2], address;
  char path[4096];
  void* host = nullptr;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  napi_get_value_string_utf8(env, arguments[0], path, sizeof path, &length);
  napi_get_typedarray_info(env, arguments[1], nullptr, &bytes, &host, nullptr, nullptr);
  void* module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const auto entry = reinterpret_cast<Entry>(module ? dlsym(module, kEntryName) : nullptr);
  const Api* api = entry ? entry(kAbiVersion) : nullptr;
  void* data = api ? copied(*api, host, bytes) : nullptr;
  if (!data) {
    napi_throw_error(env, nullptr, "no device memory");
    return nullptr;
  }
  napi_create_bigint_uint64(env, reinterpret_cast<uintptr_t>(data), &address);
  return address;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "upload", NAPI_AUTO_LENGTH, upload, nullptr, &function);
  napi_set_named_property(env, exports, "upload", function);
  return exports;
}
