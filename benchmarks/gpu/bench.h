// What the GPU benchmarks share: device memory with random values, medians of event times, and the rows they report.
#pragma once
#include <cuda_runtime.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../../native/cuda/kernels.h"

namespace poc::bench {

// Ends the program with a message where a call failed.
void require(cudaError_t error, const char* what);

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) { require(cudaMalloc(&data_, bytes), "allocate"); }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

  // Normal values of the given deviation; never zeros, which cost less power and so run faster.
  void fill(Dtype dtype, float deviation, uint32_t seed);
  template <class T>
  std::vector<T> download(size_t first, size_t count) const {
    std::vector<T> out(count);
    require(cudaMemcpy(out.data(), as<T>() + first, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return out;
  }
  template <class T>
  void upload(const std::vector<T>& values) {
    require(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

// The device, its measured limits, and where results go.
struct Bench {
  cudaDeviceProp device;
  cuda::Queue queue;                   // never stopped
  double copy_rate = 0, fma_rate = 0;  // bytes read and written, and FLOP, a second
  FILE* rows = nullptr;
  size_t num_wrong = 0;

  explicit Bench(const char* path);
  ~Bench();

  // Median seconds of `repeats` runs after warm-up; `cold`: nothing of use is left in the L2 cache.
  double seconds(const std::function<void()>& work, bool cold, int repeats = 11) const;
  // One row: a share has a floor that is held and a goal; 0: none.
  void report(const std::string& id, double value, const std::string& unit, double floor, double goal,
              const std::string& detail);
  // Called before anything is timed; a wrong result is told and makes the program fail.
  void expect(bool right, const std::string& what);

 private:
  std::unique_ptr<DeviceMemory> flushed_, stop_;
};

std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Same bits, as the numerics contract wants them.
bool same_bits(float a, float b);

void bench_rates(Bench& bench);
void bench_gather(Bench& bench);
void bench_matmul(Bench& bench);
void bench_attention(Bench& bench);
void bench_model(Bench& bench);

}  // namespace poc::bench
