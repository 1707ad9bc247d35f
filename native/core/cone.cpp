#include "cone.h"

#include <algorithm>

namespace poc {

static constexpr size_t kJoinedGap = 16;  // rows

size_t lay_out(std::vector<Part>* parts, size_t page_slots) {
  size_t slots = 0;
  for (Part& part : *parts) {
    part.first_slot = slots - part.first_position;
    slots += (part.tokens.size() + page_slots - 1) / page_slots * page_slots;
  }
  return slots;
}

static void keep_each_once(std::vector<uint32_t>* rows) {
  std::sort(rows->begin(), rows->end());
  rows->erase(std::unique(rows->begin(), rows->end()), rows->end());
}

// Where each of `rows` stands in `sorted`, which has it.
static std::vector<uint32_t> places_of(const std::vector<uint32_t>& rows, const std::vector<uint32_t>& sorted) {
  std::vector<uint32_t> places;
  for (const uint32_t row : rows)
    places.push_back(static_cast<uint32_t>(std::lower_bound(sorted.begin(), sorted.end(), row) - sorted.begin()));
  return places;
}

Cone::Cone(const std::vector<Part>& parts, size_t num_layers) {
  for (const Part& part : parts) {
    const size_t deepest = part.samples.layers.empty() ? 0 : part.samples.layers.back() + 1;
    num_layers_ = std::max(num_layers_, part.wanted != Wanted::samples ? num_layers : std::min(deepest, num_layers));
  }
  asked_.resize(num_layers_ + 1);
  for (const Part& part : parts) add(part);
  sampled_.resize(asked_.size());
  for (size_t layer = 0; layer <= num_layers_; ++layer) {
    for (const Sampled& sample : asked_[layer]) sampled_[layer].push_back(sample.row);
    keep_each_once(&sampled_[layer]);
  }
  count_keys();
}

void Cone::add(const Part& part) {
  ranges_.push_back({num_rows_,
                     part.tokens.size(),
                     part.first_position,
                     part.first_slot,
                     part.parent,
                     part.wanted,
                     shared_keys(part),
                     false,
                     {}});
  num_rows_ += part.tokens.size();
  add_samples(ranges_.size() - 1, part.samples);
}

// The parent's runs up to where it is left, and its own.
std::vector<SharedKeys> Cone::shared_keys(const Part& part) const {
  if (part.parent == kNoParent || part.first_position == 0) return {};
  const Range& parent = ranges_[part.parent];
  std::vector<SharedKeys> runs = parent.shared;
  runs.push_back({part.first_position, parent.first_slot});
  while (runs.size() > 1 && runs[runs.size() - 2].end >= part.first_position) runs.pop_back();
  runs.back().end = part.first_position;
  return runs;
}

void Cone::add_samples(size_t range, const SampleRequest& samples) {
  for (size_t i = 0; i < samples.layers.size(); ++i)
    for (const uint32_t position : samples.positions[i]) {
      size_t owner = range;
      while (position < ranges_[owner].first_position) owner = ranges_[owner].parent;
      const size_t row = ranges_[owner].first_row + position - ranges_[owner].first_position;
      asked_[samples.layers[i]].push_back({static_cast<uint32_t>(row), static_cast<uint32_t>(range)});
    }
}

// Calls f(row) for the rows whose state at a layer is wanted for itself, in any order.
template <class F>
void Cone::for_wanted(size_t layer, F f) const {
  for (const Sampled& sample : asked_[layer])
    if (!ranges_[sample.part].dropped) f(sample.row);
  if (layer < num_layers_) return;
  for (const Range& range : ranges_)
    if (range.wanted == Wanted::hidden) f(range.first_row + range.rows - 1);
}

size_t Cone::range_of(size_t row) const {
  const auto behind = [](size_t at, const Range& range) { return at < range.first_row; };
  return static_cast<size_t>(std::upper_bound(ranges_.begin(), ranges_.end(), row, behind) - ranges_.begin()) - 1;
}

void Cone::count_keys() {
  for (Range& range : ranges_) {
    range.keys.assign(num_layers_ + 1, range.wanted != Wanted::samples ? range.rows : 0);
    range.keys.back() = 0;
  }
  std::vector<size_t> through(ranges_.size());  // of each range, leading rows that go through the layer
  for (size_t layer = num_layers_; layer-- > 0;) {
    for (size_t i = 0; i < ranges_.size(); ++i) through[i] = ranges_[i].keys[layer + 1];
    for_wanted(layer + 1, [&](size_t row) {
      const size_t i = range_of(row);
      through[i] = std::max(through[i], row - ranges_[i].first_row + 1);
    });
    // They attend to the rows before them, and to what those share. Parts come after those they continue.
    for (size_t i = ranges_.size(); i-- > 0;) {
      Range& range = ranges_[i];
      range.keys[layer] = std::max(range.keys[layer], through[i]);
      if (through[i] == 0) continue;
      for (size_t end = range.first_position, at = range.parent; end > 0 && at != kNoParent; at = ranges_[at].parent) {
        Range& owner = ranges_[at];
        if (end > owner.first_position) owner.keys[layer] = std::max(owner.keys[layer], end - owner.first_position);
        end = std::min(end, owner.first_position);
      }
    }
  }
}

void Cone::drop(const std::vector<size_t>& parts) {
  for (const size_t part : parts) ranges_[part].dropped = true;
  count_keys();
}

std::vector<Span> Cone::rows(size_t layer) const {
  std::vector<Span> spans;
  const auto add = [&](size_t first, size_t rows) {
    if (spans.empty() || first - (spans.back().first_row + spans.back().rows) > kJoinedGap)
      spans.push_back({first, rows});
    else
      spans.back().rows = first + rows - spans.back().first_row;
  };
  std::vector<uint32_t> wanted;
  for_wanted(layer, [&](size_t row) { wanted.push_back(static_cast<uint32_t>(row)); });
  keep_each_once(&wanted);
  if (only_samples(layer)) {
    for (const size_t place : places_of(wanted, sampled_[layer])) add(place, 1);
    return spans;
  }
  auto next = wanted.begin();
  for (const Range& range : ranges_) {
    if (range.keys[layer] > 0) add(range.first_row, range.keys[layer]);
    for (; next != wanted.end() && *next < range.first_row + range.rows; ++next)
      if (*next >= range.first_row + range.keys[layer]) add(*next, 1);
  }
  return spans;
}

bool Cone::only_samples(size_t layer) const {
  const auto verified = [](const Range& range) { return range.wanted == Wanted::samples; };
  return layer == end() && !sampled_[layer].empty() && std::all_of(ranges_.begin(), ranges_.end(), verified);
}

std::vector<uint32_t> Cone::sample_places(size_t layer) const {
  std::vector<uint32_t> rows;
  for (const Sampled& sample : asked_[layer]) rows.push_back(sample.row);
  return places_of(rows, sampled_[layer]);
}

std::vector<Segment> Cone::segments(size_t layer, size_t first_row, size_t rows) const {
  std::vector<Segment> segments;
  if (only_samples(layer)) {
    const auto row = sampled_[layer].begin() + static_cast<std::ptrdiff_t>(first_row);
    for (size_t i = 0, range = 0; i < rows; ++i) {
      const bool follows = i > 0 && row[i] == row[i - 1] + 1 && row[i] < ranges_[range].first_row + ranges_[range].rows;
      if (follows) {
        ++segments.back().rows;
        continue;
      }
      range = range_of(row[i]);
      segments.push_back(segment(range, i, row[i], 1));
    }
    return segments;
  }
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const size_t first = std::max(first_row, ranges_[i].first_row);
    const size_t last = std::min(first_row + rows, ranges_[i].first_row + ranges_[i].rows);
    if (first < last) segments.push_back(segment(i, first - first_row, first, last - first));
  }
  return segments;
}

// `rows` of a range from `row` on, at `place` among the rows of an op.
Segment Cone::segment(size_t range, size_t place, size_t row, size_t rows) const {
  const Range& r = ranges_[range];
  return {place, rows, r.first_position + (row - r.first_row), r.first_slot, r.shared.data(), r.shared.size()};
}

}  // namespace poc
