#include "cone.h"

#include <algorithm>

namespace poc {

Cone::Cone(const std::vector<Part>& parts, size_t num_layers) {
  for (const Part& part : parts)
    num_layers_ = std::max<size_t>(num_layers_,
                                   part.complete ? num_layers
                                                 : (part.samples.layers.empty() ? 0 : part.samples.layers.back() + 1));
  sampled_.resize(num_layers_);
  for (const Part& part : parts) {
    Range range{num_rows_, part.tokens.size(), part.first_position, part.first_slot, {}};
    range.needed.assign(num_layers_ + 1, part.complete ? range.rows : 0);
    for (size_t i = 0; i < part.samples.layers.size(); ++i) {
      const size_t layer = part.samples.layers[i];
      for (const uint32_t position : part.samples.positions[i])
        sampled_[layer].push_back(static_cast<uint32_t>(range.first_row + position - range.first_position));
      const size_t rows = part.samples.positions[i].back() - range.first_position + 1;
      range.needed[layer] = std::max(range.needed[layer], rows);
    }
    for (size_t layer = num_layers_; layer-- > 0;)
      range.needed[layer] = std::max(range.needed[layer], range.needed[layer + 1]);
    num_rows_ += range.rows;
    ranges_.push_back(std::move(range));
  }
}

std::vector<Span> Cone::rows(size_t layer) const {
  std::vector<Span> spans;
  for (const Range& range : ranges_) {
    const size_t rows = range.needed[layer];
    if (rows == 0) continue;
    if (!spans.empty() && spans.back().first_row + spans.back().rows == range.first_row)
      spans.back().rows += rows;
    else
      spans.push_back({range.first_row, rows});
  }
  return spans;
}

bool Cone::only_samples(size_t layer) const {
  return layer + 1 == num_layers_ && rows(num_layers_).empty() && !sampled_[layer].empty();
}

std::vector<uint32_t> Cone::sampled_rows(size_t layer) const { return sampled_[layer]; }

std::vector<Segment> Cone::segments(size_t first_row, size_t rows) const {
  std::vector<Segment> segments;
  for (const Range& range : ranges_) {
    const size_t first = std::max(first_row, range.first_row);
    const size_t last = std::min(first_row + rows, range.first_row + range.rows);
    if (first < last)
      segments.push_back(
          {first - first_row, last - first, range.first_position + (first - range.first_row), range.first_slot});
  }
  return segments;
}

}  // namespace poc
