// Which rows a pass must compute at which layer. Pure bookkeeping: no memory of a backend, no ops.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend.h"

namespace poc {

// Which positions to copy out at which layers: layers ascending, positions strictly increasing. Behind the last layer
// stands the virtual one, index num_layers: its samples are the final hidden states, after the final norm.
struct SampleRequest {
  std::vector<uint32_t> layers;
  std::vector<std::vector<uint32_t>> positions;
};

constexpr size_t kNoParent = static_cast<size_t>(-1);

// What a pass is for, beside the samples: nothing (verification); K and V of every row at every layer; the last
// row's hidden state after the last layer as well (the next token).
enum class Wanted { samples, cache, hidden };

// One sequence's share of a pass: tokens at consecutive positions from `first_position` on.
struct Part {
  std::vector<uint32_t> tokens;  // none, where the parent has all that the sequence needs
  SampleRequest samples;         // positions of the sequence, shared ones too
  size_t first_position = 0;
  size_t first_slot = 0;  // see Segment and lay_out()
  Wanted wanted = Wanted::samples;
  // A part before this one, which has the rows of positions 0 .. first_position - 1, itself or by continuing
  // others: the prefix that both share is computed once. first_position is then a multiple of the cache's
  // page_slots(), and at most kMaxSharedRuns parts are continued. kNoParent: what comes before is in the cache.
  size_t parent = kNoParent;
};

// Gives each part its own slots, a whole number of pages behind those of the part before; returns how many slots
// the cache needs. Shared positions have no slots of their own, so that first_slot + first_position is where a part
// begins; that is never less than first_position, since all that it shares stands before it.
size_t lay_out(std::vector<Part>* parts, size_t page_slots);

struct Span {
  size_t first_row, rows;
};

// The dependency cone of a pass over one or several sequences, whose rows follow one another. A row of a
// layer needs only rows before it in its own sequence, so what is needed at a layer are the rows sampled there, and
// as keys leading rows of each part: up to the last position sampled at a deeper layer, and all that is shared with
// a part that goes through the layer.
class Cone {
 public:
  // `num_layers`: the model's.
  Cone(const std::vector<Part>& parts, size_t num_layers);

  // The parts' samples are not wanted any more: from now on their rows are needed only where others share them.
  void drop(const std::vector<size_t>& parts);

  size_t num_rows() const { return num_rows_; }  // of all parts together
  // Layers to visit, the virtual one aside: up to the deepest one that is sampled, or all.
  size_t num_layers() const { return num_layers_; }
  // Whether the virtual layer is sampled; num_layers() is then the model's.
  bool virtual_layer() const { return !sampled_[num_layers_].empty(); }
  // The deepest layer of the cone, which may be the virtual one.
  size_t end() const { return virtual_layer() ? num_layers_ : num_layers_ - 1; }
  // Rows that are needed at `layer`; at num_layers(), those whose hidden state is wanted. Rows are joined where few
  // lie between them: to compute those as well costs less than to go through the layer's weights once more.
  std::vector<Span> rows(size_t layer) const;
  // Whether `layer`, which may be num_layers(), is the end of the cone: nothing attends to its keys, and only what is
  // sampled there is needed. Then rows() and segments() count places in sampled_rows(), where rows lie densely.
  bool only_samples(size_t layer) const;
  // Rows sampled at `layer`, which may be num_layers(), ascending, each once.
  const std::vector<uint32_t>& sampled_rows(size_t layer) const { return sampled_[layer]; }
  // For each sample of `layer`, parts in order, positions ascending: its place in sampled_rows().
  std::vector<uint32_t> sample_places(size_t layer) const;
  // Rows first_row .. of those at `layer`, cut where parts end or positions do not follow one another; rows are counted
  // from first_row. Valid as long as the cone.
  std::vector<Segment> segments(size_t layer, size_t first_row, size_t rows) const;

 private:
  // A sampled row, and the part that samples it: the row's own, or one that continues it.
  struct Sampled {
    uint32_t row, part;
  };
  struct Range {
    size_t first_row, rows, first_position, first_slot, parent;
    Wanted wanted;
    std::vector<SharedKeys> shared;
    bool dropped;
    std::vector<size_t> keys;  // at each layer: leading rows that are attended to
  };
  void add(const Part& part);
  void add_samples(size_t range, const SampleRequest& samples);
  std::vector<SharedKeys> shared_keys(const Part& part) const;
  size_t range_of(size_t row) const;
  Segment segment(size_t range, size_t place, size_t row, size_t rows) const;
  void count_keys();
  template <class F>
  void for_wanted(size_t layer, F f) const;

  std::vector<Range> ranges_;
  std::vector<std::vector<Sampled>> asked_;     // at each layer, the virtual one too, in the parts' order
  std::vector<std::vector<uint32_t>> sampled_;  // see sampled_rows()
  size_t num_rows_ = 0, num_layers_ = 0;
};

}  // namespace poc
