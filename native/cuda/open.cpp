#include "open.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <map>
#include <memory>
#include <mutex>

namespace poc::cuda {
namespace {

constexpr const char* kFileName = "libpoc_cuda.so";
constexpr int kMaxDevices = 64;

// The folder of the file that this code is in.
std::string own_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&own_folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string last_error() {
  const char* text = dlerror();
  return text ? text : "unknown";
}

// The table of a module file, or null and the reason. `handshake` also checks what file it is.
const Api* api_of(void* library, std::string* reason) {
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kEntryName));
  if (!entry) {
    *reason = std::string("not a module of this library: it has no ") + kEntryName;
    return nullptr;
  }
  const Api* api = entry(kAbiVersion);
  if (!api || api->abi_version != kAbiVersion || api->struct_size != sizeof(Api)) {
    *reason = "the module has another interface: reinstall proof-of-cache, its files are of different versions";
    return nullptr;
  }
  if (std::string(api->version) != POC_VERSION) {
    *reason = std::string("the module is of version ") + api->version + ", the addon of " POC_VERSION;
    return nullptr;
  }
  return api;
}

Module load(const std::string& asked_for) {
  Module module;
  module.path = asked_for.empty() ? own_folder() + "/" + kFileName : asked_for;
  struct stat status;
  if (stat(module.path.c_str(), &status) != 0) {
    module.reason = "this build has no CUDA module (" + module.path + " is not there)";
    return module;
  }
  // Without a driver there is nothing to do: the module's kernels need not be mapped.
  if (asked_for.empty() && !dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    module.reason = "no NVIDIA driver (libcuda.so.1 cannot be loaded)";
    return module;
  }
  void* library = dlopen(module.path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    module.reason = last_error();
    return module;
  }
  const Api* api = api_of(library, &module.reason);
  if (!api) return module;
  AbiDevice devices[kMaxDevices];
  int count = 0;
  char reason[512] = {};
  const bool failed = api->devices(devices, kMaxDevices, &count, reason, sizeof reason) != 0;
  module.reason = reason;
  module.devices.assign(devices, devices + count);
  if (!failed && count > 0) module.api = api;
  return module;
}

}  // namespace

const Module& open_module(const std::string& path) {
  static std::mutex mutex;
  static auto* opened = new std::map<std::string, std::unique_ptr<Module>>;
  std::lock_guard<std::mutex> lock(mutex);
  auto& module = (*opened)[path];
  if (!module) module = std::make_unique<Module>(load(path));
  return *module;
}

}  // namespace poc::cuda
