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

Cone::Cone(const std::vector<Part>& parts, size_t num_layers) {
  for (const Part& part : parts) {
    const size_t deepest = part.samples.layers.empty() ? 0 : part.samples.layers.back() + 1;
    num_layers_ = std::max(num_layers_, part.wanted != Wanted::samples ? num_layers : std::min(deepest, num_layers));
  }
  asked_.resize(num_layers_ + 1);
  for (const Part& part : parts) add(part);
  sampled_ = asked_;
  for (std::vector<uint32_t>& rows : sampled_) {
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  }
  count_needed();
}

void Cone::add(const Part& part) {
  ranges_.push_back({num_rows_,
                     part.tokens.size(),
                     part.first_position,
                     part.first_slot,
                     part.parent,
                     part.wanted,
                     shared_keys(part),
                     {},
                     {},
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
  std::vector<Need>& needs = ranges_[range].needs;
  for (size_t i = 0; i < samples.layers.size(); ++i)
    for (const uint32_t position : samples.positions[i]) {
      size_t owner = range;
      while (position < ranges_[owner].first_position) owner = ranges_[owner].parent;
      const size_t row = position - ranges_[owner].first_position, layer = samples.layers[i];
      asked_[layer].push_back(static_cast<uint32_t>(ranges_[owner].first_row + row));
      if (layer == num_layers_) ranges_[range].final_rows.push_back(asked_[layer].back());
      if (needs.empty() || needs.back().layer != layer || needs.back().range != owner)
        needs.push_back({layer, owner, 0});
      needs.back().rows = row + 1;
    }
}

void Cone::count_needed() {
  for (Range& range : ranges_) {
    range.needed.assign(num_layers_ + 1, range.wanted != Wanted::samples ? range.rows : 0);
    range.needed.back() = 0;
  }
  for (const Range& range : ranges_)
    for (const Need& need : range.needs) {
      size_t& needed = ranges_[need.range].needed[need.layer];
      needed = std::max(needed, need.rows);
    }
  // Parts come after those they continue.
  for (size_t i = ranges_.size(); i-- > 0;) {
    Range& range = ranges_[i];
    for (size_t layer = num_layers_; layer-- > 0;) {
      range.needed[layer] = std::max(range.needed[layer], range.needed[layer + 1]);
      const bool last_row = layer + 1 == num_layers_ && range.wanted == Wanted::hidden;
      if (range.needed[layer + 1] == 0 && !last_row) continue;
      // Its rows go through attention, which reads what they share.
      for (size_t end = range.first_position, at = range.parent; end > 0 && at != kNoParent; at = ranges_[at].parent) {
        Range& owner = ranges_[at];
        if (end > owner.first_position) owner.needed[layer] = std::max(owner.needed[layer], end - owner.first_position);
        end = std::min(end, owner.first_position);
      }
    }
  }
}

void Cone::drop(const std::vector<size_t>& parts) {
  for (const size_t part : parts) {
    ranges_[part].needs.clear();
    ranges_[part].final_rows.clear();
  }
  count_needed();
}

// Rows whose hidden state is wanted, ascending, each once.
std::vector<uint32_t> Cone::final_rows() const {
  std::vector<uint32_t> rows;
  for (const Range& range : ranges_) {
    rows.insert(rows.end(), range.final_rows.begin(), range.final_rows.end());
    if (range.wanted == Wanted::hidden) rows.push_back(static_cast<uint32_t>(range.first_row + range.rows - 1));
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

std::vector<Span> Cone::rows(size_t layer) const {
  std::vector<Span> spans;
  const auto add = [&](size_t first, size_t rows) {
    if (spans.empty() || first - (spans.back().first_row + spans.back().rows) > kJoinedGap)
      spans.push_back({first, rows});
    else
      spans.back().rows = first + rows - spans.back().first_row;
  };
  if (layer == num_layers_)
    for (const uint32_t row : final_rows()) add(row, 1);
  else
    for (const Range& range : ranges_)
      if (range.needed[layer] > 0) add(range.first_row, range.needed[layer]);
  return spans;
}

bool Cone::only_samples(size_t layer) const {
  const auto verified = [](const Range& range) { return range.wanted == Wanted::samples; };
  return layer + 1 == num_layers_ && !virtual_layer() && !sampled_[layer].empty() &&
         std::all_of(ranges_.begin(), ranges_.end(), verified);
}

std::vector<uint32_t> Cone::sample_places(size_t layer) const {
  const std::vector<uint32_t>& rows = sampled_[layer];
  std::vector<uint32_t> places;
  for (const uint32_t row : asked_[layer])
    places.push_back(static_cast<uint32_t>(std::lower_bound(rows.begin(), rows.end(), row) - rows.begin()));
  return places;
}

std::vector<Segment> Cone::segments(size_t first_row, size_t rows) const {
  std::vector<Segment> segments;
  for (const Range& range : ranges_) {
    const size_t first = std::max(first_row, range.first_row);
    const size_t last = std::min(first_row + rows, range.first_row + range.rows);
    if (first < last)
      segments.push_back({first - first_row, last - first, range.first_position + (first - range.first_row),
                          range.first_slot, range.shared.data(), range.shared.size()});
  }
  return segments;
}

}  // namespace poc
