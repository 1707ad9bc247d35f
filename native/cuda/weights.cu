#include "weights.h"

#include <algorithm>
#include <cstring>

namespace poc::cuda {
namespace {

constexpr size_t kSlotBytes = size_t{8} << 20;
constexpr size_t kMaxFlags = 1024;  // weights between two calls of finish()

Error non_finite(const std::string& name) {
  return wrong_value("MODEL_NON_FINITE", name, "finite in every value", "a NaN or an infinity");
}

}  // namespace

WeightUpload::~WeightUpload() {
  cudaStreamSynchronize(stream_.get());
  for (Slot& slot : slots_) release(slot);
  if (flags_) memory_.give_back(flags_);
}

void WeightUpload::release(Slot& slot) noexcept {
  if (slot.pinned) pinned_.give_back(slot.pinned, slot.bytes);
  if (slot.device) memory_.give_back(slot.device);
  slot.pinned = slot.device = nullptr;
  slot.bytes = 0;
}

// The slot whose last copy is done; grown when one row does not fit.
WeightUpload::Slot& WeightUpload::next_slot(size_t bytes) {
  Slot& slot = slots_[turn_++ % 2];
  if (slot.bytes > 0) slot.done.synchronize();
  if (slot.bytes < bytes) {
    release(slot);
    slot.device = memory_.take_for(stream_, bytes);
    slot.pinned = pinned_.take(bytes);
    slot.bytes = bytes;  // last: a slot that memory ran out for is taken anew next time
  }
  return slot;
}

uint32_t* WeightUpload::next_flag(const std::string& name) {
  if (!flags_) {
    flags_ = static_cast<uint32_t*>(memory_.take_for(stream_, kMaxFlags * sizeof(uint32_t)));
    check(cudaMemsetAsync(flags_, 0, kMaxFlags * sizeof(uint32_t), stream_.get()), "clear flags");
  }
  if (names_.size() == kMaxFlags) throw Error("INTERNAL", "too many weights before finish_weights()");
  names_.push_back(name);
  return flags_ + (names_.size() - 1);
}

void* WeightUpload::pack(const TensorView& weight, const AbiCancel& cancel) {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t panels = ceil_div(weight.rows, kPanel), row_bytes = weight.cols * dtype_bytes(weight.dtype);
  const size_t panel_bytes = kPanel * row_bytes;
  const size_t slot_bytes = std::max(row_bytes, std::min(kSlotBytes, panels * panel_bytes));
  char* packed = static_cast<char*>(memory_.take_for(stream_, panels * panel_bytes));
  try {
    uint32_t* flag = next_flag(weight.name);
    if (weight.rows % kPanel != 0)
      check(cudaMemsetAsync(packed + (panels - 1) * panel_bytes, 0, panel_bytes, stream_.get()), "clear a panel");
    for (size_t row = 0; row < weight.rows;) {
      if (cancel.asked(cancel.context)) throw Cancelled();
      Slot& slot = next_slot(slot_bytes);
      const size_t rows = std::min(weight.rows - row, slot.bytes / row_bytes), bytes = rows * row_bytes;
      memcpy(slot.pinned, static_cast<const char*>(weight.data) + row * row_bytes, bytes);
      check(cudaMemcpyAsync(slot.device, slot.pinned, bytes, cudaMemcpyHostToDevice, stream_.get()), "copy weights");
      cuda::pack(stream_.get(), slot.device, row, rows, {packed, weight.dtype, weight.rows, weight.cols}, flag);
      check(cudaGetLastError(), "pack weights");
      slot.done.record(stream_);
      row += rows;
    }
  } catch (...) {
    cudaStreamSynchronize(stream_.get());
    memory_.give_back(packed);
    throw;
  }
  return packed;
}

void* WeightUpload::widen(const TensorView& weight) {
  std::vector<float> values(weight.cols);
  for (size_t i = 0; i < weight.cols; ++i) {
    values[i] = load_float(weight.data, weight.dtype, i);
    if (!(values[i] - values[i] == 0)) throw non_finite(weight.name);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t bytes = values.size() * sizeof(float);
  void* data = memory_.take_for(stream_, bytes);
  // From memory that is not pinned: the values are taken before the call returns.
  const cudaError_t error = cudaMemcpyAsync(data, values.data(), bytes, cudaMemcpyHostToDevice, stream_.get());
  if (error != cudaSuccess) memory_.give_back(data);
  check(error, "copy weights");
  return data;
}

void WeightUpload::finish() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<uint32_t> flags(names_.size(), 0);
  const std::vector<std::string> names = std::move(names_);
  names_.clear();
  if (!flags.empty())
    check(cudaMemcpyAsync(flags.data(), flags_, flags.size() * sizeof(uint32_t), cudaMemcpyDeviceToHost, stream_.get()),
          "read flags");
  if (flags_) check(cudaMemsetAsync(flags_, 0, kMaxFlags * sizeof(uint32_t), stream_.get()), "clear flags");
  stream_.synchronize();
  for (size_t i = 0; i < flags.size(); ++i)
    if (flags[i] != 0) throw non_finite(names[i]);
}

}  // namespace poc::cuda
