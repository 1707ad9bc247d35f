#include "layers.h"

#include <chrono>

#include "error.h"

namespace poc {

LayerWalk::LayerWalk(const Model& model, size_t num_layers, const std::atomic<bool>& cancelled)
    : model_(model), num_layers_(num_layers), cancelled_(cancelled) {
  const LayerSource* source = model.weights.source.get();
  if (source && !source->in_memory(num_layers)) loader_ = std::thread([this] { load_all(); });
}

LayerWalk::~LayerWalk() {
  if (!loader_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  loader_.join();
}

const LayerWeights& LayerWalk::layer(size_t layer) {
  if (!loader_.joinable()) return model_.weights.layers[layer];
  std::unique_lock<std::mutex> lock(mutex_);
  current_ = layer;
  loaded_.erase(loaded_.begin(), loaded_.lower_bound(layer));
  changed_.notify_all();
  for (;;) {
    const auto found = loaded_.find(layer);
    if (found != loaded_.end()) return found->second;
    if (failure_) std::rethrow_exception(failure_);
    if (cancelled_) throw Cancelled();
    changed_.wait_for(lock, std::chrono::milliseconds(5));  // `cancelled_` notifies nobody
  }
}

// The loader's thread. At most two layers are in memory: the one in use and the next.
void LayerWalk::load_all() {
  try {
    for (size_t layer = 0; layer < num_layers_; ++layer) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || layer <= current_ + 1; });
        if (stop_) return;
      }
      LayerWeights weights = model_.weights.source->load(layer, stop_);
      std::lock_guard<std::mutex> lock(mutex_);
      loaded_.emplace(layer, std::move(weights));
      changed_.notify_all();
    }
  } catch (...) {
    std::lock_guard<std::mutex> lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

}  // namespace poc
