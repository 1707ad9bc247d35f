// Does the hardware do what the emulated device and the CPU do, bit for bit? Compiled by g++ with the emulator this
// program writes a file of results; compiled by nvcc it makes them on the GPU and compares.
//   conformance_reference write FILE     then     conformance compare FILE
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "conformance_kernels.cuh"

using namespace poc;
using namespace poc::cuda;

namespace {

using Words = std::vector<uint32_t>;

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

// Bit patterns of all kinds: any, floats of ordinary size, and neighbours of the places where rounding changes.
Words patterns(uint64_t seed, size_t count) {
  static const uint32_t special[] = {0,          1,          2,          0x007fffff, 0x00800000, 0x00800001, 0x33000000,
                                     0x33000001, 0x33800000, 0x387fe000, 0x387ff000, 0x38800000, 0x3f800000, 0x3f801000,
                                     0x3f803000, 0x3f808000, 0x3f818000, 0x3f7fffff, 0x42b17218, 0x42d00000, 0x477fefff,
                                     0x477ff000, 0x47800000, 0x4b000001, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff, 0x7f800000,
                                     0x7f800001, 0x7fc00000, 0x7fc12345, 0x7fffffff, 0x00001000, 0x00007c00, 0x000003ff,
                                     0x00000400, 0x00007e01, 0x42ae0000};
  constexpr size_t kNum = sizeof special / sizeof *special;
  Words out(count);
  uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
  for (uint32_t& word : out) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const uint32_t bits = static_cast<uint32_t>(state >> 32), kind = static_cast<uint32_t>(state >> 20) % 8;
    word = bits;
    if (kind == 0) word = special[(bits >> 1) % kNum] ^ (bits << 31);
    if (kind == 1) word = special[(bits >> 3) % kNum] + bits % 5 - 2;
    if (kind >= 4) word = (bits & 0x807fffffu) | ((0x70 + (bits >> 23) % 0x18) << 23);
  }
  return out;
}

template <class T>
T* device_words(size_t count, const T* from) {
  T* data = nullptr;
  require(cudaMalloc(&data, count * sizeof(T)), "allocate");
  if (from) require(cudaMemcpyAsync(data, from, count * sizeof(T), cudaMemcpyHostToDevice, nullptr), "copy");
  require(cudaDeviceSynchronize(), "copy");
  return data;
}

struct Section {
  std::string name;
  Words words;
};

void add(std::vector<Section>& out, const std::string& name, void (*kernel)(const Args), uint32_t blocks, size_t count,
         Args args) {
  constexpr size_t kSmem = 4096;
  args.out = device_words<uint32_t>(count, Words(count, 0xabababab).data());
  POC_LAUNCH(kernel, dim3(blocks), kThreads, kSmem, nullptr, args);
  require(cudaGetLastError(), name.c_str());
  Words words(count);
  require(cudaMemcpyAsync(words.data(), args.out, count * 4, cudaMemcpyDeviceToHost, nullptr), name.c_str());
  require(cudaDeviceSynchronize(), name.c_str());
  require(cudaFree(args.out), "free");
  out.push_back({name, std::move(words)});
}

std::vector<Section> make_all() {
  constexpr uint32_t kCount = 1 << 17;
  Words a = patterns(1, kCount), b = patterns(2, kCount), c = patterns(3, kCount);
  for (uint32_t i = 0; i < 65536; ++i) a[i] = (a[i] & 0xffff0000u) | i;  // every 16-bit pattern is widened
  Args args{device_words(kCount, a.data()),
            device_words(kCount, b.data()),
            device_words(kCount, c.data()),
            nullptr,
            device_words<uint32_t>(kThreads, nullptr),
            kCount,
            0};
  std::vector<Section> out;
  for (args.op = 0; args.op < kNumOps; ++args.op) add(out, kOpNames[args.op], numbers_kernel, kBlocks, kCount, args);
  add(out, "shared memory carver", carver_kernel, 1, 14, args);
  add(out, "shuffles and votes", warp_kernel, 1, 13 * kThreads, args);
  add(out, "__syncthreads_or and relaxed words", block_kernel, 1, 9 * kThreads, args);
  add(out, "inverse rms", norm_kernel, 128, 128 * kThreads, args);
  args.op = 1;
  add(out, "cp.async with a predicate", copy_kernel, 1, 8 * kThreads, args);
  args.op = 0;  // last: a device that reads here all the same is of no use afterwards
  add(out, "cp.async that reads nothing", copy_kernel, 1, 8 * kThreads, args);
  return out;
}

// Name, number of words, words; for each section.
int write_file(const char* path, const std::vector<Section>& sections) {
  FILE* file = fopen(path, "wb");
  if (!file) return fprintf(stderr, "cannot write %s\n", path), 1;
  for (const Section& s : sections) {
    fprintf(file, "%s\n%zu\n", s.name.c_str(), s.words.size());
    fwrite(s.words.data(), 4, s.words.size(), file);
  }
  if (fclose(file) != 0) return fprintf(stderr, "cannot write %s\n", path), 1;
  printf("%zu sections written\n", sections.size());
  return 0;
}

Section read_section(FILE* file) {
  Section s;
  for (int c = fgetc(file); c != EOF && c != '\n'; c = fgetc(file)) s.name += static_cast<char>(c);
  size_t count = 0;
  if (fscanf(file, "%zu", &count) != 1 || fgetc(file) != '\n') return s;
  s.words.resize(count);
  s.words.resize(fread(s.words.data(), 4, count, file));
  return s;
}

// How many values differ, with the first one; all of them where the sections are not the same.
size_t compare(const Section& expected, const Section& got) {
  const bool same_kind = expected.name == got.name && expected.words.size() == got.words.size();
  size_t wrong = same_kind ? 0 : got.words.size();
  for (size_t i = 0; same_kind && i < got.words.size(); ++i) {
    if (expected.words[i] == got.words[i]) continue;
    if (wrong++ == 0) printf("  value %zu: %08x, not %08x\n", i, got.words[i], expected.words[i]);
  }
  printf("%s %s: %zu values, %zu differ\n", wrong ? "FAIL" : "ok  ", got.name.c_str(), got.words.size(), wrong);
  return wrong;
}

int compare_file(const char* path, const std::vector<Section>& sections) {
  FILE* file = fopen(path, "rb");
  if (!file) return fprintf(stderr, "cannot read %s\n", path), 1;
  size_t values = 0, wrong = 0;
  for (const Section& s : sections) {
    values += s.words.size();
    wrong += compare(read_section(file), s);
  }
  fclose(file);
  printf("%zu checks, %zu failed\n", values, wrong);
  return wrong ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc == 3 ? argv[1] : "";
  if (mode != "write" && mode != "compare") return fprintf(stderr, "write FILE or compare FILE\n"), 1;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    fprintf(stderr, "no GPU: %s\n", error == cudaSuccess ? "none found" : cudaGetErrorString(error));
    return 2;
  }
  return mode == "write" ? write_file(argv[2], make_all()) : compare_file(argv[2], make_all());
}
