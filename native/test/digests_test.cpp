// Digests of elementary functions and whole passes against native/test/digests.txt, the same file on every
// processor. POC_WRITE_DIGESTS=1 writes it anew, after a change of the numerics that is meant.
#include <fstream>
#include <map>

#include "../core/choose.h"
#include "../core/elementary.h"
#include "random_model.h"

using namespace poc;
using namespace poc::test;

namespace {

const char* const kFile = "native/test/digests.txt";

std::vector<std::pair<std::string, uint64_t>> entries;

template <class T>
void record(const std::string& name, const std::vector<T>& values) {
  entries.emplace_back(name, digest(values.data(), values.size() * sizeof(T)));
}

void elementary_functions() {
  std::vector<float> exps;
  std::vector<double> logs, exponentials, waves, noise;
  std::vector<uint16_t> halves, brains;
  Random random(41);
  for (int i = 0; i < 20000; ++i) {
    const double unit = static_cast<double>(random.next() >> 11) * 0x1p-53;
    double sine, cosine;
    exps.push_back(exp32(static_cast<float>(unit * 193.0 - 104.0)));
    logs.push_back(log64(bits_double(random.next() % 0x7ff0000000000000ull)));
    exponentials.push_back(exp64(unit * 1409.0 - 700.0));
    sincos64(static_cast<double>(static_cast<float>(unit * 0x1p20)), &sine, &cosine);
    waves.push_back(sine);
    waves.push_back(cosine);
    const float x = bits_float(static_cast<uint32_t>(random.next()));
    halves.push_back(round_f16(x));
    brains.push_back(round_bf16(x));
    const uint32_t key[2] = {static_cast<uint32_t>(i), 7};
    noise.push_back(gumbel(key, static_cast<uint32_t>(random.below(128000)), static_cast<uint32_t>(i % 4096)));
  }
  record("exp32", exps);
  record("log64", logs);
  record("exp64", exponentials);
  record("sincos64", waves);
  record("gumbel", noise);
  record("round_f16", halves);
  record("round_bf16", brains);
}

void rope_tables() {
  for (const RandomModel& m : random_models()) {
    const std::vector<float> frequencies = rope_frequencies(m.config);
    const std::vector<uint32_t> positions{0, 1, 2, 100, 4095, 8191, 131071, 1048575};
    record(m.name + " rope", reference::rope_table(frequencies, positions.data(), positions.size()));
  }
}

void chosen_tokens() {
  Random random(42);
  std::vector<uint32_t> chosen;
  for (uint32_t i = 0; i < 300; ++i) {
    const std::vector<float> logits = random.bells(200, 6);
    const uint32_t top_ks[] = {0, 1, 40};
    const double top_ps[] = {1.0, 0.9, 0.3}, temperatures[] = {0.0, 0.7, 1.0, 1.5};
    const Sampling sampling{temperatures[i % 4], top_ks[i / 4 % 3], top_ps[i / 12 % 3], {i, ~i}};
    chosen.push_back(choose_token(logits.data(), logits.size(), sampling, i));
  }
  record("choose_token", chosen);
}

// Every instruction set must arrive at the same entry, so each is recorded once.
void whole_passes() {
  for (const RandomModel& m : random_models()) {
    bool first = true;
    PassResult reference;
    for (const std::string& simd : cpu::available_simd()) {
      const PassResult result = whole_pass(m.load(2, simd), m.kv, m.tokens(45), 32);
      CHECK(first || result == reference, m.name, " ", simd, ": ", difference(reference, result));
      if (first) reference = result;
      first = false;
      if (quick()) break;
    }
    for (size_t layer = 0; layer < m.config.num_layers; ++layer) {
      record(text(m.name, " layer ", layer, " k"), reference.k[layer]);
      record(text(m.name, " layer ", layer, " v"), reference.v[layer]);
    }
    record(m.name + " logits", reference.logits);
  }
}

std::string line_of(const std::pair<std::string, uint64_t>& entry) {
  char hex[17];
  snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(entry.second));
  return std::string(hex) + "  " + entry.first;
}

void every_digest_is_the_committed_one() {
  std::vector<std::string> lines;
  for (const auto& entry : entries) lines.push_back(line_of(entry));
  const char* write = getenv("POC_WRITE_DIGESTS");
  if (write && strcmp(write, "1") == 0) {
    std::ofstream out(kFile);
    out << "# FNV-1a, 64 bits, of what digests_test computes; the same on every processor.\n";
    for (const std::string& line : lines) out << line << "\n";
    CHECK(out.good(), kFile);
    return;
  }
  std::ifstream in(kFile);
  CHECK(in.good(), kFile, ": run in the repository root");
  std::vector<std::string> committed;
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#') committed.push_back(line);
  CHECK(lines.size() == committed.size(), lines.size(), " digests, ", committed.size(), " committed");
  for (size_t i = 0; i < std::min(lines.size(), committed.size()); ++i)
    CHECK(lines[i] == committed[i], lines[i], ", committed ", committed[i]);
}

}  // namespace

int main() {
  static_assert(sizeof(double) == 8, "digests are of little-endian IEEE-754 bytes");
  RUN(elementary_functions);
  RUN(rope_tables);
  RUN(chosen_tokens);
  RUN(whole_passes);
  RUN(every_digest_is_the_committed_one);
  return result();
}
