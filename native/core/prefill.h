// The layer loop, written once for every backend, for verification, for prompts and for decoding.
#pragma once
#include <memory>
#include <vector>

#include "cone.h"
#include "layers.h"
#include "model.h"

namespace poc {

// Rows of one layer's samples on their way to the host: K and V of a position, in the cache's dtype, or the final
// hidden state of the virtual layer, in fp32, which takes the place of K. A row that several parts share and sample
// is there once.
struct LayerSamples {
  size_t layer = 0, num_rows = 0;
  size_t k_bytes = 0, v_bytes = 0;  // of one row
  size_t stride = 0;                // bytes from one K to the next, or from one V to the next; all of V comes behind K
  std::unique_ptr<Download> rows;   // null when the layer has none
  std::vector<uint32_t> places;     // of each sample, parts in order, positions ascending: its row

  // Waits for the rows.
  const uint8_t* k() const { return static_cast<const uint8_t*>(rows->wait()); }
  const uint8_t* v() const { return k() + num_rows * stride; }
  // Waits, and writes K and V of each sample in the order of `places`.
  void copy(uint8_t* k_out, uint8_t* v_out) const;
};

// One pass over one or several sequences, packed behind one another: each gets the bits it has alone.
// next() completes layer l - 1 and then makes K and V of layer l, so that samples of a layer are on their
// way before anything deeper is computed.
class Prefill {
 public:
  // `cache` has one layer (verification) or all, and room for every part; see lay_out().
  Prefill(const Model& model, Ops& ops, KvCache& cache, const std::vector<Part>& parts, size_t chunk_size,
          const std::atomic<bool>& cancelled);

  // What only these parts' samples need is left out from the next layer on; what then stands in their place is
  // unspecified.
  void drop(const std::vector<size_t>& parts) { cone_.drop(parts); }
  // Queues the work up to K and V of the next layer, or up to the virtual layer's rows where it is sampled; false once
  // all layers of the cone were visited and what is needed of the last one is complete.
  bool next();
  // The samples of the layer that the last true next() reached.
  LayerSamples take_samples() { return std::move(samples_); }
  // The last row's hidden state after the last layer: (1, hidden_size). Where the last part wants it.
  Rows last_hidden() const { return hidden_.from(hidden_.rows - 1, 1); }
  // The virtual layer's rows, as sampled, where next() has reached it: (num_rows, hidden_size).
  Rows final_rows() const { return final_; }
  // The memory that they are in.
  std::shared_ptr<Buffer> final_memory() const { return final_buffer_; }

 private:
  // Cosines and sines of a list of positions, each (positions, head_dim / 2).
  struct RopeRows {
    std::unique_ptr<Buffer> buffer;
    const float *cosines = nullptr, *sines = nullptr;
  };

  void upload_lists(const std::vector<Part>& parts);
  RopeRows make_rope(const uint32_t* positions, size_t count);
  template <class F>
  void for_chunks(const std::vector<Span>& spans, F f);
  void write_kv(size_t layer);
  void write_sampled_kv(size_t layer);
  void keep_sampled_rows();
  void write_final();
  std::shared_ptr<Buffer> begin_samples(size_t layer, RopeKvArgs* args);
  void end_samples(const std::shared_ptr<Buffer>& sampled);
  void rotate_by(const RopeRows& rope, size_t row, RopeKvArgs* args) const;
  void project_kv(const LayerWeights& w, Rows normed, RopeKvArgs args);
  void finish(size_t layer);
  void attend(const LayerWeights& w, size_t layer, size_t row, size_t count);
  void feed_forward(const LayerWeights& w, size_t row, size_t count);
  Rows scratch(size_t which, size_t rows, size_t cols) const;
  Rows rows_in(Buffer& buffer, size_t rows, size_t cols) const;
  float eps() const { return static_cast<float>(model_.config.rms_norm_eps); }
  static float* float_data(Buffer& buffer) { return static_cast<float*>(buffer.data()); }

  const Model& model_;
  Ops& ops_;
  KvCache& cache_;
  Cone cone_;
  const size_t chunk_size_;
  LayerWalk layers_;
  size_t next_layer_ = 0;
  bool finished_ = false;
  LayerSamples samples_;
  // Index lists in the backend's memory, see upload_lists().
  std::unique_ptr<Buffer> lists_;
  const uint32_t *tokens_ = nullptr, *slots_ = nullptr, *gathered_rows_ = nullptr, *gathered_positions_ = nullptr;
  const int32_t* gathered_samples_ = nullptr;
  std::vector<const int32_t*> sample_lists_;  // at each layer: null, or (rows)
  std::unique_ptr<Buffer> hidden_buffer_, scratch_[3];
  std::shared_ptr<Buffer> final_buffer_;
  RopeRows rope_;
  Rows hidden_;  // (rows, hidden_size): the residual stream; from keep_sampled_rows() on, of sampled rows alone
  Rows final_;   // see final_rows()
};

}  // namespace poc
