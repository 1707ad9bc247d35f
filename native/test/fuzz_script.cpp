// libFuzzer for functions written in JavaScript: a Node addon that runs its loop. Coverage comes from counters that
// test/fuzz/engine.cjs has instrumented code count in; libFuzzer takes them for those of a compiled module.
#include <napi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

// Of libFuzzer's runtime library, which brings no header for them.
extern "C" int LLVMFuzzerRunDriver(int* argc, char*** argv, int (*run_one)(const uint8_t* data, size_t size));
extern "C" void __sanitizer_cov_8bit_counters_init(uint8_t* begin, uint8_t* end);
extern "C" void __sanitizer_cov_pcs_init(const uintptr_t* begin, const uintptr_t* end);

namespace {

constexpr size_t kMaxCounters = 1 << 16;
uint8_t counters[kMaxCounters];
uintptr_t places[2 * kMaxCounters];  // for each counter a made-up program counter and no flags

Napi::FunctionReference function;
Napi::ThreadSafeFunction on_main_thread;

Napi::Value copied(Napi::Env env, const uint8_t* data, size_t size) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, size);
  if (size > 0) memcpy(bytes.Data(), data, size);
  return bytes;
}

// Ends the process by way of libFuzzer's handler, which keeps the input.
[[noreturn]] void found(const std::string& what) {
  fprintf(stderr, "FINDING: %s\n", what.c_str());
  abort();
}

std::string shown(const Napi::Error& error) {
  const Napi::Value value = error.Value();
  if (!value.IsObject()) return value.ToString();
  const Napi::Value stack = value.As<Napi::Object>().Get("stack");
  return stack.IsString() ? stack.As<Napi::String>().Utf8Value() : error.Message();
}

int run_one(const uint8_t* data, size_t size) {
  const Napi::Env env = function.Env();
  Napi::HandleScope scope(env);
  try {
    function.Call({copied(env, data, size)});
  } catch (const Napi::Error& error) {
    found(shown(error));
  }
  return 0;
}

// For a function that calls its second argument when it is done, with what is wrong or with nothing.
int run_one_and_wait(const uint8_t* data, size_t size) {
  std::promise<std::string> promise;
  on_main_thread.BlockingCall([&](Napi::Env env, Napi::Function callback) {
    const auto done = Napi::Function::New(env, [&promise](const Napi::CallbackInfo& info) {
      promise.set_value(info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "");
    });
    callback.Call({copied(env, data, size), done});
  });
  const std::string wrong = promise.get_future().get();
  if (!wrong.empty()) found(wrong);
  return 0;
}

void drive(std::vector<std::string> arguments, int (*run)(const uint8_t*, size_t)) {
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(&argument[0]);
  pointers.push_back(nullptr);
  int count = static_cast<int>(arguments.size());
  char** begin = pointers.data();
  exit(LLVMFuzzerRunDriver(&count, &begin, run));
}

// start(arguments: string[], numCounters: number, waits: boolean, run: function): libFuzzer ends the process.
void start(const Napi::CallbackInfo& info) {
  const Napi::Array list = info[0].As<Napi::Array>();
  std::vector<std::string> arguments;
  for (uint32_t i = 0; i < list.Length(); ++i) arguments.push_back(list.Get(i).ToString());
  const size_t num_counters = info[1].As<Napi::Number>().Uint32Value();
  for (size_t i = 0; i < num_counters; ++i) places[2 * i] = i + 1;
  __sanitizer_cov_8bit_counters_init(counters, counters + num_counters);
  __sanitizer_cov_pcs_init(places, places + 2 * num_counters);
  // libFuzzer calls exit(), which must not tear down a Node that is in the middle of a call.
  on_exit([](int status, void*) { fflush(nullptr), _exit(status); }, nullptr);
  if (info[2].ToBoolean()) {
    on_main_thread = Napi::ThreadSafeFunction::New(info.Env(), info[3].As<Napi::Function>(), "fuzz", 1, 1);
    std::thread(drive, arguments, run_one_and_wait).detach();
  } else {
    function = Napi::Persistent(info[3].As<Napi::Function>());
    drive(arguments, run_one);
  }
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("counters", Napi::ArrayBuffer::New(env, counters, kMaxCounters));
  exports.Set("start", Napi::Function::New(env, start));
  return exports;
}

}  // namespace

NODE_API_MODULE(fuzz_script, initialise)
