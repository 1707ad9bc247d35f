// A pass's walk through the layers' weights. Those that are not in memory are brought in by a thread of its own,
// layer l + 1 while layer l computes, and nothing deeper: what a pass does not reach is not read.
#pragma once
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "model.h"

namespace poc {

class LayerWalk {
 public:
  // `num_layers`: how many the pass will visit, from layer 0.
  LayerWalk(const Model& model, size_t num_layers, const std::atomic<bool>& cancelled);
  ~LayerWalk();
  LayerWalk(const LayerWalk&) = delete;

  // The weights of `layer`: the one asked for last, or the next one; those before it are let go. Throws
  // what loading met, or Cancelled.
  const LayerWeights& layer(size_t layer);

 private:
  void load_all();

  const Model& model_;
  const size_t num_layers_;
  const std::atomic<bool>& cancelled_;
  // Only when layers are not in memory:
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t current_ = 0;
  std::map<size_t, LayerWeights> loaded_;
  std::exception_ptr failure_;
  std::thread loader_;
};

}  // namespace poc
