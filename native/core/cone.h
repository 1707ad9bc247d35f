// Which rows a pass must compute at which layer. Pure bookkeeping: no memory of a backend, no ops.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend.h"

namespace poc {

// Which positions to copy out at which layers: layers ascending, positions strictly increasing.
struct SampleRequest {
  std::vector<uint32_t> layers;
  std::vector<std::vector<uint32_t>> positions;
};

// One sequence's share of a pass: tokens at consecutive positions from `first_position` on.
struct Part {
  std::vector<uint32_t> tokens;
  SampleRequest samples;  // positions of the sequence, each one of these tokens
  size_t first_position = 0;
  size_t first_slot = 0;  // see Segment
  // Every row of every layer is needed, hidden state included (prompts, decoding), not only what the
  // samples depend on (verification).
  bool complete = false;
};

struct Span {
  size_t first_row, rows;
};

// The dependency cone of a pass over one or several sequences, whose rows follow one another. A row of a
// layer needs only rows before it in its own sequence, so what is needed at a layer are leading rows of
// each sequence: up to the last position sampled at this layer or a deeper one.
class Cone {
 public:
  // `num_layers`: the model's.
  Cone(const std::vector<Part>& parts, size_t num_layers);

  size_t num_rows() const { return num_rows_; }  // of all parts together
  // Layers to visit: up to the deepest one that is sampled, or all.
  size_t num_layers() const { return num_layers_; }
  // Rows that need K and V at `layer`, adjacent parts joined; none behind the last layer.
  std::vector<Span> rows(size_t layer) const;
  // Whether only the sampled rows are needed at `layer`, and of them only K and V.
  bool only_samples(size_t layer) const;
  // Rows sampled at `layer`: parts in order, positions ascending.
  std::vector<uint32_t> sampled_rows(size_t layer) const;
  // Rows first_row .. of the pass, cut where sequences end; rows are counted from first_row.
  std::vector<Segment> segments(size_t first_row, size_t rows) const;

 private:
  struct Range {
    size_t first_row, rows, first_position, first_slot;
    std::vector<size_t> needed;  // at each layer: leading rows
  };
  std::vector<Range> ranges_;
  std::vector<std::vector<uint32_t>> sampled_;  // at each layer
  size_t num_rows_ = 0, num_layers_ = 0;
};

}  // namespace poc
