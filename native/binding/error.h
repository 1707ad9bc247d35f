// Turns native errors into JS errors with a `code` and the details that lib/addon.ts makes a PocError of.
#pragma once
#include <napi.h>

#include <exception>
#include <new>

#include "../core/error.h"

namespace poc::binding {

// A failure kept between the thread that met it and the thread that may make JS values.
struct Failure {
  std::string code, message, where, expected, received;

  static Failure of(std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      return {e.code, e.what(), e.where, e.expected, e.received};
    } catch (const std::bad_alloc&) {
      return {"OUT_OF_MEMORY", "Out of memory", "memory", "", ""};
    } catch (const std::exception& e) {
      return {"INTERNAL", e.what(), "", "", ""};
    } catch (...) {
      return {"INTERNAL", "unknown native error", "", "", ""};
    }
  }

  Napi::Error to_js(Napi::Env env) const {
    Napi::Error error = Napi::Error::New(env, message);
    error.Set("code", code);
    if (!where.empty()) error.Set("where", where);
    if (!expected.empty()) error.Set("expected", expected);
    if (!received.empty()) error.Set("received", received);
    return error;
  }
};

// Calls f on the JS thread; whatever native error it meets is thrown as a JS error.
template <class F>
auto guarded(Napi::Env env, F f) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Failure::of(std::current_exception()).to_js(env);
  }
}

}  // namespace poc::binding
