// SHA-256 against the examples of its standard, and every code against the others.
#include "../core/sha256.h"

#include <string>

#include "check.h"

using namespace poc;
using namespace poc::test;

namespace {

std::string hex(const uint8_t* bytes, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    char two[3];
    snprintf(two, sizeof two, "%02x", bytes[i]);
    out += two;
  }
  return out;
}

std::string hash(const Sha256Code& code, const std::string& input) {
  uint8_t out[Sha256::kBytes];
  Sha256(code).update(input.data(), input.size()).finish(out);
  return hex(out, sizeof out);
}

// NIST's examples for FIPS 180-4: one block, two blocks, the long one; and the empty message.
void the_standard_s_examples_come_out() {
  CHECK(sha256_codes().size() >= 1 && std::string(sha256_codes().back().name) == "plain");
  for (const Sha256Code& code : sha256_codes()) {
    CHECK(hash(code, "") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", code.name);
    CHECK(hash(code, "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", code.name);
    CHECK(hash(code, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
          code.name);
    CHECK(hash(code,
               "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
               "mnopqrstnopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
          code.name);
    CHECK(hash(code, std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
          code.name);
  }
}

// Every length around the borders of blocks and padding, in one piece and in random ones.
void all_codes_agree_however_the_input_is_cut() {
  Random random(91);
  for (size_t length = 0; length <= 300; ++length) {
    std::string input(length, '\0');
    for (char& byte : input) byte = static_cast<char>(random.next());
    const std::string expected = hash(sha256_codes().back(), input);
    for (const Sha256Code& code : sha256_codes()) {
      CHECK(hash(code, input) == expected, code.name, " of ", length);
      for (int round = 0; round < 4; ++round) {
        Sha256 pieces(code);
        for (size_t at = 0; at < length;) {
          const size_t bytes = std::min(length - at, random.below(1 + random.below(100)));
          pieces.update(input.data() + at, bytes);
          at += bytes;
        }
        uint8_t out[Sha256::kBytes];
        pieces.finish(out);
        CHECK(hex(out, sizeof out) == expected, code.name, " of ", length);
      }
    }
  }
}

void a_copy_goes_on_by_itself() {
  for (const Sha256Code& code : sha256_codes()) {
    Sha256 one(code);
    one.update("ab", 2);
    Sha256 other = one;
    one.update("x", 1);
    uint8_t out[Sha256::kBytes];
    other.update("c", 1).finish(out);
    CHECK(hex(out, sizeof out) == hash(code, "abc"), code.name);
    one.finish(out);
    CHECK(hex(out, sizeof out) == hash(code, "abx"), code.name);
  }
}

}  // namespace

int main() {
  RUN(the_standard_s_examples_come_out);
  RUN(all_codes_agree_however_the_input_is_cut);
  RUN(a_copy_goes_on_by_itself);
  return result();
}
