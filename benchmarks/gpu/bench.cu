// What share of a GPU's measured limits do the kernels reach? Each result is checked before it is timed.
//   gpu_bench ROWS_FILE     (one JSON object a line)
#include "bench.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace poc::bench {
namespace {

struct FillArgs {
  void* data;
  Dtype dtype;
  size_t count;
  float deviation;
  uint32_t seed;
};

static __device__ uint32_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(x >> 32);
}

__global__ void fill_kernel(const __grid_constant__ FillArgs args) {
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.count; i += step) {
    const uint64_t key = (i + 1) * 0x9e3779b97f4a7c15ull + args.seed;
    const float u = (static_cast<float>(mixed(key) >> 8) + 0.5f) * 0x1p-24f;
    const float angle = static_cast<float>(mixed(key ^ 0x5555555555555555ull) >> 8) * 0x1p-24f;
    const float normal = sqrtf(-2.0f * logf(u)) * cospif(2.0f * angle);
    store_float(args.data, args.dtype, i, normal * args.deviation);
  }
}

}  // namespace

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

void DeviceMemory::fill(Dtype dtype, float deviation, uint32_t seed) {
  const FillArgs args{data_, dtype, bytes_ / dtype_bytes(dtype), deviation, seed};
  POC_LAUNCH(fill_kernel, dim3(2048), 256, 0, nullptr, args);
  require(cudaDeviceSynchronize(), "fill");
}

std::string text(const char* format, ...) {
  char out[512];
  va_list args;
  va_start(args, format);
  vsnprintf(out, sizeof out, format, args);
  va_end(args);
  return out;
}

bool same_bits(float a, float b) { return float_bits(a) == float_bits(b); }

Bench::Bench(const char* path) {
  require(cudaGetDeviceProperties(&device, 0), "describe the device");
  rows = fopen(path, "w");
  if (!rows) require(cudaErrorInvalidValue, path);
  flushed_ = std::make_unique<DeviceMemory>(std::max<size_t>(size_t{256} << 20, 4 * size_t(device.l2CacheSize)));
  stop_ = std::make_unique<DeviceMemory>(sizeof(uint32_t));
  stop_->upload(std::vector<uint32_t>{0});
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
  queue = {stream, stop_->as<uint32_t>()};
}

Bench::~Bench() { fclose(rows); }

double Bench::seconds(const std::function<void()>& work, bool cold, int repeats) const {
  cudaEvent_t from, to;
  require(cudaEventCreate(&from), "make an event");
  require(cudaEventCreate(&to), "make an event");
  std::vector<float> times;
  for (int i = -2; i < repeats; ++i) {
    if (cold) require(cudaMemsetAsync(flushed_->as<char>(), i, flushed_->bytes(), queue.stream), "flush");
    require(cudaEventRecord(from, queue.stream), "record");
    work();
    require(cudaEventRecord(to, queue.stream), "record");
    require(cudaGetLastError(), "launch");
    require(cudaEventSynchronize(to), "run");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, from, to), "measure");
    if (i >= 0) times.push_back(milliseconds);
  }
  cudaEventDestroy(from);
  cudaEventDestroy(to);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / 1e3;
}

void Bench::report(const std::string& id, double value, const std::string& unit, double floor, double goal,
                   const std::string& detail) {
  const auto number = [](double x) { return x > 0 ? text("%g", x) : std::string("null"); };
  fprintf(rows,
          "{\"id\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"floor\": %s, \"goal\": %s, \"detail\": \"%s\"}\n",
          id.c_str(), value, unit.c_str(), number(floor).c_str(), number(goal).c_str(), detail.c_str());
  fflush(rows);
  printf("%-44s %10.4g %-16s %s\n", id.c_str(), value, unit.c_str(), detail.c_str());
  fflush(stdout);
}

void Bench::expect(bool right, const std::string& what) {
  if (right) return;
  ++num_wrong;
  fprintf(stderr, "WRONG RESULT: %s\n", what.c_str());
}

}  // namespace poc::bench

int main(int argc, char** argv) {
  if (argc != 2) return fprintf(stderr, "one argument: where rows are written\n"), 1;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    fprintf(stderr, "no GPU: %s\n", error == cudaSuccess ? "none found" : cudaGetErrorString(error));
    return 2;
  }
  poc::bench::Bench bench(argv[1]);
  poc::bench::bench_rates(bench);
  poc::bench::bench_gather(bench);
  poc::bench::bench_matmul(bench);
  poc::bench::bench_attention(bench);
  poc::bench::bench_model(bench);
  printf("%zu wrong results\n", bench.num_wrong);
  return bench.num_wrong ? 1 : 0;
}
