// The emulator of CUDA: what its operations mean, that it finds each kind of mistake that it promises to find,
// and that right programs pass under every schedule.
#include "../emulator/emulator.h"

#include <cmath>
#include <numeric>
#include <thread>

#include "check.h"

using namespace poc;
using namespace poc::emulator;
using namespace poc::test;

namespace {

struct Setting {
  Schedule schedule;
  uint64_t seed;
};
const Setting kSettings[] = {{Schedule::kLazy, 0},   {Schedule::kEager, 0},  {Schedule::kRandom, 1},
                             {Schedule::kRandom, 2}, {Schedule::kRandom, 3}, {Schedule::kRandom, 4}};

void set(const Setting& setting) {
  reset();
  options().schedule = setting.schedule;
  options().seed = setting.seed;
}

template <class F>
void under_all_schedules(F f) {
  for (const Setting& setting : kSettings) {
    set(setting);
    f();
  }
  reset();
}

// The message of the LaunchError of one block; "" when it is right.
template <class Kernel>
std::string failure_of(uint32_t num_threads, size_t smem_bytes, const Kernel& kernel) {
  try {
    run_grid(1, num_threads, smem_bytes, kernel);
  } catch (const LaunchError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// All six settings have to end with this message.
template <class Kernel>
void expect_failure(const char* part, uint32_t num_threads, size_t smem_bytes, const Kernel& kernel) {
  under_all_schedules([&] {
    const std::string failure = failure_of(num_threads, smem_bytes, kernel);
    CHECK(contains(failure, part), "expected ", part, ", got: ", failure);
    CHECK(failure_of(num_threads, smem_bytes, [] { __syncthreads(); }) == "", "the next launch is not affected");
  });
}

void indices_cover_the_grid() {
  under_all_schedules([] {
    std::vector<int> count(3 * 2 * 2 * 40 * 2);
    run_grid(dim3(3, 2, 2), dim3(40, 2), 0, [&] {
      const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      ++count[(block * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x];
    });
    CHECK(std::count(count.begin(), count.end(), 1) == static_cast<ptrdiff_t>(count.size()));
  });
}

void a_barrier_orders_and_votes() {
  under_all_schedules([] {
    int wrong = 0;
    run_grid(3, 96, 96 * 4, [&] {
      ptx::SmemCarver carver;
      uint32_t* values = carver.take<uint32_t>(96);
      for (uint32_t round = 0; round < 5; ++round) {
        values[threadIdx.x] = 100 * round + threadIdx.x;
        __syncthreads();
        if (values[95 - threadIdx.x] != 100 * round + 95 - threadIdx.x) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
        const int any = __syncthreads_or(threadIdx.x == 7 * round && round != 3);
        if (any != (round != 3)) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
      }
    });
    CHECK(wrong == 0, wrong);
  });
}

void shuffles_move_between_lanes() {
  under_all_schedules([] {
    int got[6][64];
    run_grid(1, 64, 0, [&] {
      const int lane = static_cast<int>(threadIdx.x);
      got[0][lane] = __shfl_sync(~0u, lane, 7, 16);
      got[1][lane] = __shfl_xor_sync(~0u, lane, 5);
      got[2][lane] = __shfl_down_sync(~0u, lane, 3u, 8);
      got[3][lane] = __shfl_up_sync(~0u, lane, 3u, 8);
      got[4][lane] = static_cast<int>(__shfl_sync(~0u, 0.5f * static_cast<float>(lane), 33) * 2);
      got[5][lane] = __shfl_xor_sync(~0u, lane, 16, 16);
    });
    for (int i = 0; i < 64; ++i) {
      CHECK(got[0][i] == i / 16 * 16 + 7, i);
      CHECK(got[1][i] == (i ^ 5), i);
      CHECK(got[2][i] == (i % 8 < 5 ? i + 3 : i), i);
      CHECK(got[3][i] == (i % 8 >= 3 ? i - 3 : i), i);
      CHECK(got[4][i] == i / 32 * 32 + 1, i);
      CHECK(got[5][i] == (i % 32 < 16 ? i : i - 16), i, " later segments cannot be read, earlier ones can");
    }
  });
}

void votes_count_lanes() {
  under_all_schedules([] {
    uint32_t ballot[64] = {};
    int any[64], all[64], halves[64];
    run_grid(1, 48, 0, [&] {  // the second warp has 16 lanes
      const uint32_t i = threadIdx.x;
      ballot[i] = __ballot_sync(~0u, i % 3 == 0);
      any[i] = __any_sync(~0u, i == 40);
      all[i] = __all_sync(~0u, i >= 32);
      const uint32_t half = i % 32 < 16 ? 0xffffu : 0xffff0000u;
      halves[i] = __popc(__ballot_sync(half, 1));
      __syncwarp();
    });
    for (uint32_t i = 0; i < 48; ++i) {
      uint32_t expected = 0;
      for (uint32_t lane = 0; lane < (i < 32 ? 32 : 16); ++lane)
        if ((i / 32 * 32 + lane) % 3 == 0) expected |= 1u << lane;
      CHECK(ballot[i] == expected, i);
      CHECK(any[i] == (i >= 32) && all[i] == (i >= 32) && halves[i] == 16, i);
    }
  });
}

void a_missing_barrier_is_found() {
  size_t num_wrong = 0;
  under_all_schedules([&] {
    float out[64];
    run_grid(1, 64, 256, [&] {
      ptx::SmemCarver carver;
      float* values = carver.take<float>(64);
      values[threadIdx.x] = 1;
      out[threadIdx.x] = values[63 - threadIdx.x];
    });
    num_wrong += std::isnan(std::accumulate(out, out + 64, 0.0f));
  });
  CHECK(num_wrong == std::size(kSettings), num_wrong);
}

void divergence_is_found() {
  expect_failure("deadlock, 32 of 64 threads wait:", 64, 0, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
  expect_failure("warp 1 lanes ffffffff: exited", 64, 0, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
  expect_failure("warp 0 lanes 00ffffff: __syncthreads at emulator_test.cpp:", 32, 0, [] {
    if (threadIdx.x < 24) __syncthreads();
  });
  expect_failure("barrier divergence", 64, 0, [] {
    if (threadIdx.x < 32)
      __syncthreads();
    else
      __syncthreads();
  });
  expect_failure("divergence: ", 32, 0, [] {
    if (threadIdx.x < 16)
      (void)__shfl_xor_sync(~0u, 1, 1);
    else
      __syncwarp();
  });
  expect_failure("divergence: __shfl_xor_sync", 32, 0, [] {
    if (threadIdx.x < 16)
      (void)__shfl_xor_sync(~0u, 1, 1);
    else
      (void)__shfl_xor_sync(~0u, 1, 1);
  });
  expect_failure("is not in the mask", 32, 0, [] { (void)__shfl_xor_sync(0xffff, 1, 1); });
  expect_failure("reads a lane outside the mask", 32, 0, [] {
    if (threadIdx.x < 16) (void)__shfl_xor_sync(0xffff, 1, 16);
  });
}

void exited_lanes_are_found() {
  const auto kernel = [] {
    if (threadIdx.x < 16) return;
    (void)__shfl_xor_sync(~0u, 1, 1);
  };
  under_all_schedules([&] {  // who comes first decides how it shows
    const std::string failure = failure_of(32, 0, kernel);
    CHECK(contains(failure, "has exited") || contains(failure, "lanes 0000ffff: exited"), failure);
  });
  set({Schedule::kLazy, 0});
  CHECK(contains(failure_of(32, 0, kernel), "lane 0 of the mask has exited"));
}

void bad_shared_addresses_are_found() {
  expect_failure("carve: 68 bytes at 0 exceed the 64 bytes", 32, 64, [] { (void)ptx::SmemCarver().take<float>(17); });
  expect_failure("carve: 4 bytes at 64 exceed", 32, 64, [] {
    ptx::SmemCarver carver;
    (void)carver.take<float>(13);
    (void)carver.take<float>(1, 64);
  });
  alignas(16) static const char source[64] = {};
  expect_failure("cp.async: shared address 8 is not aligned", 1, 64, [&] {
    ptx::SmemCarver carver;
    ptx::cp_async16(ptx::smem_u32(carver.take<char>(64)) + 8, source, true);
  });
  expect_failure("cp.async: misaligned source", 1, 64, [&] {
    ptx::SmemCarver carver;
    ptx::cp_async16(ptx::smem_u32(carver.take<char>(64)), source + 8, true);
  });
  expect_failure("outside every array", 1, 64, [&] {
    ptx::SmemCarver carver;
    ptx::cp_async16(ptx::smem_u32(carver.take<char>(64)) + 64, source, true);
  });
  expect_failure("not in shared memory", 1, 64, [&] { (void)ptx::smem_u32(source); });
}

void writes_into_the_gaps_are_found() {
  if (kAddressSanitizer) return;  // it would stop the program, as it should
  const auto writes_at = [](int32_t offset) {
    return [offset] {
      ptx::SmemCarver carver;
      volatile char* first = carver.take<char>(32);
      volatile char* second = carver.take<char>(32);
      second[0] = 0;
      first[offset] = 0;
    };
  };
  expect_failure("write 1 bytes past the end of shared array 0", 1, 64, writes_at(32));
  expect_failure("write 13 bytes past the end of shared array 0", 1, 64, writes_at(44));
  expect_failure("write before the start of shared memory", 1, 64, writes_at(-1));
  expect_failure("past the end of shared array 1", 1, 64, writes_at(32 + static_cast<int32_t>(kSharedGap) + 32));
}

// Each thread copies 16 bytes in two groups and reads after `kPending` of them may still be on their way.
template <int kPending>
void copy_in_groups(const float* source, float* out) {
  run_grid(1, 32, 2 * 32 * 16, [=] {
    ptx::SmemCarver carver;
    float* arrays[2] = {carver.take<float>(128), carver.take<float>(128)};
    for (int i = 0; i < 2; ++i) {
      ptx::cp_async16(ptx::smem_u32(arrays[i] + 4 * threadIdx.x), source + 4 * threadIdx.x, threadIdx.x != 5);
      ptx::cp_async_commit();
    }
    ptx::cp_async_wait<kPending>();
    for (int i = 0; i < 8; ++i) out[8 * threadIdx.x + i] = arrays[i / 4][4 * threadIdx.x + i % 4];
  });
}

void async_copies_arrive_when_waited_for() {
  alignas(16) float source[128];
  std::iota(source, source + 128, 0.0f);
  float out[256];
  const auto right = [&](uint32_t i) { return out[i] == (i / 8 == 5 ? 0 : source[i / 8 * 4 + i % 4]); };
  under_all_schedules([&] {
    copy_in_groups<0>(source, out);
    for (uint32_t i = 0; i < 256; ++i) CHECK(right(i), i, " ", out[i]);
  });
  set({Schedule::kLazy, 0});
  copy_in_groups<1>(source, out);
  for (uint32_t i = 0; i < 256; ++i) CHECK(i % 8 < 4 ? right(i) : std::isnan(out[i]), i, " ", out[i]);
  copy_in_groups<2>(source, out);
  for (uint32_t i = 0; i < 256; ++i) CHECK(std::isnan(out[i]), i, " ", out[i]);
  reset();
}

// ---- the runtime ----

struct AddArguments {
  float* values;
  uint32_t count;
  float add;
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads) add(const __grid_constant__ AddArguments arguments) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  __syncthreads();
  if (i < arguments.count) arguments.values[i] += arguments.add;
}

__global__ void skip_barrier(AddArguments) {
  if (threadIdx.x == 0) __syncthreads();
}

constexpr uint32_t kCount = 300;
constexpr size_t kBytes = kCount * sizeof(float);

// A stream pair, a device array and a pinned one.
struct Rig {
  cudaStream_t copies, compute;
  cudaEvent_t event;
  float *values, *pinned;
  Rig() {
    CHECK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    CHECK(cudaMalloc(&values, kBytes) == cudaSuccess);
    CHECK(cudaHostAlloc(&pinned, kBytes, cudaHostAllocDefault) == cudaSuccess);
  }
  ~Rig() {
    cudaFreeHost(pinned);
    cudaFree(values);
    cudaEventDestroy(event);
    cudaStreamDestroy(compute);
    cudaStreamDestroy(copies);
  }
  void launch_add(float value) {
    POC_LAUNCH((add<128>), (kCount + 127) / 128, 128, 0, compute, (AddArguments{values, kCount, value}));
    CHECK(cudaGetLastError() == cudaSuccess);
  }
  void upload(const float* source) {
    CHECK(cudaMemcpyAsync(values, source, kBytes, cudaMemcpyHostToDevice, copies) == cudaSuccess);
  }
  // What lies in device memory once both streams are done.
  std::vector<float> result() {
    std::vector<float> out(kCount);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(cudaMemcpyAsync(out.data(), values, kBytes, cudaMemcpyDeviceToHost, copies) == cudaSuccess);
    CHECK(cudaStreamSynchronize(copies) == cudaSuccess);
    return out;
  }
  void fill_pinned(float value) { std::fill(pinned, pinned + kCount, value); }
};

bool all_are(const std::vector<float>& values, float expected) {
  return std::all_of(values.begin(), values.end(), [&](float value) { return value == expected; });
}

void events_order_streams() {
  under_all_schedules([] {
    Rig rig;
    rig.fill_pinned(1);
    for (int round = 0; round < 3; ++round) {
      rig.upload(rig.pinned);
      CHECK(cudaEventRecord(rig.event, rig.copies) == cudaSuccess);
      CHECK(cudaStreamWaitEvent(rig.compute, rig.event, 0) == cudaSuccess);
      rig.launch_add(1);
      CHECK(cudaEventRecord(rig.event, rig.compute) == cudaSuccess);
      CHECK(cudaStreamWaitEvent(rig.copies, rig.event, 0) == cudaSuccess);
    }
    CHECK(all_are(rig.result(), 2));
  });
}

void a_missing_wait_is_found() {
  set({Schedule::kLazy, 0});
  Rig rig;
  rig.fill_pinned(1);
  rig.upload(rig.pinned);
  rig.launch_add(1);
  std::vector<float> out(kCount);
  CHECK(cudaMemcpyAsync(out.data(), rig.values, kBytes, cudaMemcpyDeviceToHost, rig.compute) == cudaSuccess);
  CHECK(cudaStreamSynchronize(rig.compute) == cudaSuccess);
  CHECK(std::isnan(out[0]) && std::isnan(out[kCount - 1]));
  reset();
}

void pinned_sources_are_read_late_and_others_at_once() {
  set({Schedule::kLazy, 0});
  Rig rig;
  rig.fill_pinned(1);
  rig.upload(rig.pinned);
  rig.fill_pinned(2);
  CHECK(all_are(rig.result(), 2), "overwritten before it was read");
  std::vector<float> pageable(kCount, 3);
  rig.upload(pageable.data());
  pageable.assign(kCount, 4);
  CHECK(all_are(rig.result(), 3));
  set({Schedule::kEager, 0});
  rig.fill_pinned(5);
  rig.upload(rig.pinned);
  rig.fill_pinned(6);
  CHECK(all_are(rig.result(), 5));
  reset();
}

void rows_are_copied() {
  under_all_schedules([] {
    Rig rig;
    std::vector<float> rows(30, 0);
    std::iota(rows.begin(), rows.end(), 0.0f);
    CHECK(cudaMemsetAsync(rig.values, 0, kBytes, rig.copies) == cudaSuccess);
    CHECK(cudaMemcpy2DAsync(rig.values, 16, rows.data(), 20, 12, 6, cudaMemcpyHostToDevice, rig.copies) == cudaSuccess);
    rows.assign(30, -1);
    const std::vector<float> out = rig.result();
    for (size_t i = 0; i < kCount; ++i)
      CHECK(out[i] == (i < 24 && i % 4 < 3 ? static_cast<float>(i / 4 * 5 + i % 4) : 0), i, " ", out[i]);
    CHECK(cudaMemcpy2DAsync(rig.values, 8, rows.data(), 20, 12, 2, cudaMemcpyHostToDevice, rig.copies) ==
          cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess);
  });
}

void polling_makes_progress() {
  under_all_schedules([] {
    Rig rig;
    CHECK(cudaEventQuery(rig.event) == cudaSuccess, "never recorded");
    rig.fill_pinned(1);
    rig.upload(rig.pinned);
    CHECK(cudaEventRecord(rig.event, rig.copies) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(rig.compute, rig.event, 0) == cudaSuccess);
    rig.launch_add(1);
    rig.launch_add(1);
    CHECK(cudaEventRecord(rig.event, rig.compute) == cudaSuccess);
    rig.launch_add(1);  // is not waited for
    int polls = 0;
    while (cudaEventQuery(rig.event) == cudaErrorNotReady) ++polls;
    CHECK(polls <= 3 && (polls == 3) >= (options().schedule == Schedule::kLazy), polls);
    CHECK(cudaGetLastError() == (polls ? cudaErrorNotReady : cudaSuccess));
    CHECK(cudaEventSynchronize(rig.event) == cudaSuccess);
    CHECK(all_are(rig.result(), 4));
  });
}

void memory_is_limited_counted_and_known() {
  reset();
  options().device_memory = 1000;
  const size_t device_before = live_device_bytes(), pinned_before = live_pinned_bytes();
  float *a = nullptr, *b = nullptr;
  CHECK(cudaMalloc(&a, 600) == cudaSuccess && live_device_bytes() == device_before + 600);
  CHECK(cudaMalloc(&b, 401) == cudaErrorMemoryAllocation && b == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
  size_t free_bytes = 0, total = 0;
  CHECK(cudaMemGetInfo(&free_bytes, &total) == cudaSuccess && free_bytes == 400 && total == 1000);
  CHECK(cudaHostAlloc(&b, 5000, cudaHostAllocDefault) == cudaSuccess && live_pinned_bytes() == pinned_before + 5000);

  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, a + 149) == cudaSuccess && attributes.type == cudaMemoryTypeDevice);
  CHECK(cudaPointerGetAttributes(&attributes, b + 7) == cudaSuccess && attributes.type == cudaMemoryTypeHost);
  CHECK(cudaPointerGetAttributes(&attributes, &a) == cudaSuccess && attributes.type == cudaMemoryTypeUnregistered);

  CHECK(cudaMemcpyAsync(a, b, 601, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "past the end");
  CHECK(cudaMemcpyAsync(b, a, 8, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "wrong direction");
  CHECK(cudaMemsetAsync(b, 0, 8) == cudaErrorInvalidValue);
  CHECK(cudaFree(a + 1) == cudaErrorInvalidValue && cudaFree(b) == cudaErrorInvalidValue);
  CHECK(cudaFree(a) == cudaSuccess && cudaFreeHost(b) == cudaSuccess && cudaFree(nullptr) == cudaSuccess);
  CHECK(live_device_bytes() == device_before && live_pinned_bytes() == pinned_before);

  options().fail_malloc_after = 1;
  CHECK(cudaMalloc(&a, 8) == cudaSuccess);
  CHECK(cudaMalloc(&b, 8) == cudaErrorMemoryAllocation && cudaHostAlloc(&b, 8, 0) == cudaErrorMemoryAllocation);
  CHECK(cudaFree(a) == cudaSuccess);
  cudaGetLastError();
  reset();
}

void launches_are_checked() {
  reset();
  const auto error_of_launch = [](dim3 grid, dim3 block, size_t smem_bytes) {
    POC_LAUNCH((add<64>), grid, block, smem_bytes, nullptr, (AddArguments{nullptr, 0, 0}));
    return cudaGetLastError();
  };
  CHECK(error_of_launch(1, 1024, 48 * 1024) == cudaSuccess);
  CHECK(error_of_launch(0, 64, 0) == cudaErrorInvalidConfiguration);
  CHECK(error_of_launch(dim3(1, 65536), 64, 0) == cudaErrorInvalidConfiguration);
  CHECK(error_of_launch(1, 1025, 0) == cudaErrorInvalidConfiguration);
  CHECK(error_of_launch(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  CHECK(error_of_launch(1, 64, 48 * 1024 + 1) == cudaErrorInvalidValue, "not asked for");
  const auto allow = [](int bytes) {
    return cudaFuncSetAttribute(add<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  CHECK(allow(227 * 1024 + 1) == cudaErrorInvalidValue && cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(allow(100 * 1024) == cudaSuccess);
  CHECK(error_of_launch(1, 64, 100 * 1024) == cudaSuccess);
  CHECK(error_of_launch(1, 64, 100 * 1024 + 1) == cudaErrorInvalidValue);
  options().max_smem = 99 * 1024;
  CHECK(error_of_launch(1, 64, 100 * 1024) == cudaErrorInvalidValue);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  reset();
}

void a_failure_is_sticky() {
  under_all_schedules([] {
    const size_t before = live_device_bytes();
    {
      Rig rig;
      rig.fill_pinned(1);
      POC_LAUNCH(skip_barrier, 1, 64, 0, rig.compute, (AddArguments{}));
      cudaStreamSynchronize(rig.compute);
      CHECK(cudaGetLastError() == cudaErrorLaunchFailure && cudaGetLastError() == cudaErrorLaunchFailure);
      const std::string text = cudaGetErrorString(cudaErrorLaunchFailure);
      CHECK(contains(text, "deadlock, 1 of 64") && contains(text, "emulator_test.cpp:"), text);
      CHECK(cudaStreamSynchronize(rig.copies) == cudaErrorLaunchFailure, "also of other streams");
      CHECK(cudaEventQuery(rig.event) == cudaErrorLaunchFailure);
      void* p = nullptr;
      CHECK(cudaMalloc(&p, 8) == cudaErrorLaunchFailure && p == nullptr);
    }
    CHECK(live_device_bytes() == before && live_streams() == 0 && live_events() == 0, "freed all the same");
    clear_failure();
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(std::string(cudaGetErrorString(cudaErrorLaunchFailure)) == "unspecified launch failure");
    options().fail_launch_after = 1;
    Rig rig;
    rig.fill_pinned(1);
    rig.upload(rig.pinned);
    CHECK(cudaStreamSynchronize(rig.copies) == cudaSuccess);
    rig.launch_add(1);
    CHECK(cudaStreamSynchronize(rig.compute) == cudaSuccess);
    POC_LAUNCH((add<128>), 1, 128, 0, rig.compute, (AddArguments{rig.values, kCount, 1}));
    CHECK(cudaStreamSynchronize(rig.compute) == cudaErrorLaunchFailure);
    CHECK(contains(cudaGetErrorString(cudaErrorLaunchFailure), "injected"));
    clear_failure();
    CHECK(all_are(rig.result(), 2), "what failed has done nothing");
  });
}

void devices_are_described() {
  reset();
  options().name = "Test GPU";
  int count = 0, version = 0;
  cudaDeviceProp properties;
  cudaFuncAttributes attributes;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess && count == 1);
  CHECK(cudaSetDevice(0) == cudaSuccess && cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess && std::string(properties.name) == "Test GPU");
  CHECK(properties.major == 9 && properties.minor == 0 && properties.sharedMemPerBlockOptin == 227 * 1024);
  CHECK(cudaDriverGetVersion(&version) == cudaSuccess && version == 13000);
  CHECK(cudaFuncGetAttributes(&attributes, add<128>) == cudaSuccess && attributes.binaryVersion == 90);
  CHECK(std::string(cudaGetErrorName(cudaErrorNoDevice)) == "cudaErrorNoDevice");
  options().num_devices = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0);
  cudaGetLastError();
  reset();
}

void host_threads_share_the_device() {
  under_all_schedules([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([i] {
        Rig rig;
        for (int round = 0; round < 5; ++round) {
          rig.fill_pinned(static_cast<float>(i));
          rig.upload(rig.pinned);
          CHECK(cudaEventRecord(rig.event, rig.copies) == cudaSuccess);
          CHECK(cudaStreamWaitEvent(rig.compute, rig.event) == cudaSuccess);
          rig.launch_add(1);
          CHECK(cudaEventRecord(rig.event, rig.compute) == cudaSuccess);
          while (cudaEventQuery(rig.event) == cudaErrorNotReady) cudaGetLastError();
          CHECK(all_are(rig.result(), static_cast<float>(i + 1)), i);
        }
      });
    for (std::thread& thread : threads) thread.join();
  });
}

void a_small_launch_is_cheap() {
  reset();
  float* values = nullptr;
  CHECK(cudaMalloc(&values, 512) == cudaSuccess && cudaMemsetAsync(values, 0, 512) == cudaSuccess);
  const int rounds = quick() || kAddressSanitizer || kThreadSanitizer ? 100 : 5000;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < rounds; ++i) {
    POC_LAUNCH((add<128>), 1, 128, 1024, nullptr, (AddArguments{values, 128, 1}));
    CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  printf("     %.1f us for one launch of 128 threads with a barrier\n", 1e6 * seconds.count() / rounds);
  CHECK(cudaFree(values) == cudaSuccess);
}

}  // namespace

int main() {
  RUN(indices_cover_the_grid);
  RUN(a_barrier_orders_and_votes);
  RUN(shuffles_move_between_lanes);
  RUN(votes_count_lanes);
  if (!kThreadSanitizer) RUN(a_missing_barrier_is_found);  // a race, as ThreadSanitizer would say
  RUN(divergence_is_found);
  RUN(exited_lanes_are_found);
  RUN(bad_shared_addresses_are_found);
  RUN(writes_into_the_gaps_are_found);
  RUN(async_copies_arrive_when_waited_for);
  RUN(events_order_streams);
  RUN(a_missing_wait_is_found);
  RUN(pinned_sources_are_read_late_and_others_at_once);
  RUN(rows_are_copied);
  RUN(polling_makes_progress);
  RUN(memory_is_limited_counted_and_known);
  RUN(launches_are_checked);
  RUN(a_failure_is_sticky);
  RUN(devices_are_described);
  RUN(host_threads_share_the_device);
  RUN(a_small_launch_is_cheap);
  return result();
}
