// The one exception of the native code. `code` is one of lib/errors.ts; binding/ turns it into a JS error.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace poc {

struct Error : std::runtime_error {
  Error(const char* code, const std::string& message, std::string where = {}, std::string expected = {},
        std::string received = {})
      : std::runtime_error(message),
        code(code),
        where(std::move(where)),
        expected(std::move(expected)),
        received(std::move(received)) {}
  const char* code;
  std::string where, expected, received;
};

// "`where` must be `expected`, received `received`", the form lib/errors.ts uses.
inline Error wrong_value(const char* code, const std::string& where, const std::string& expected,
                         const std::string& received) {
  return Error(code, where + " must be " + expected + ", received " + received, where, expected, received);
}

// Thrown by an op when its run was cancelled; never an error of its own.
struct Cancelled : Error {
  Cancelled() : Error("ABORTED", "The operation was aborted") {}
};

}  // namespace poc
