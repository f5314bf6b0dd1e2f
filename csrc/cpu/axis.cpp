#include "cpu/axis.h"

#include <limits>
#include <string>

#include "cnncore/check.h"

namespace cnncore {
namespace {

// Everything that addresses memory later is looked at here, once.
void check_taps(const TapsView& taps, const char* name) {
  CNNCORE_REQUIRE(taps.size <= std::numeric_limits<std::int32_t>::max() - 1, name,
                  "an axis of fewer than 2**31 elements", taps.size);
  for (index_t row = 0; row < taps.groups * taps.length; ++row) {
    const std::int64_t count = taps.count[row];
    if (count < 0 || count > taps.taps)
      throw ArgumentError(name, "counts from 0 to " + std::to_string(taps.taps),
                          std::to_string(count), "taps of cnncore.taps");
    for (index_t t = 0; t < count; ++t) {
      const std::int64_t index = taps.index[row * taps.taps + t];
      if (index < 0 || index >= taps.size)
        throw ArgumentError(name, "indices from 0 to " + std::to_string(taps.size - 1),
                            std::to_string(index), "taps of an axis of this size");
    }
  }
}

// The range of inputs that group g reads.
void input_range(const TapsView& taps, index_t g, index_t& low, index_t& high) {
  low = taps.size;
  high = 0;
  for (index_t p = 0; p < taps.length; ++p)
    for (index_t t = 0; t < taps.count[taps.row(g, p)]; ++t) {
      const index_t index = taps.index[taps.row(g, p) * taps.taps + t];
      low = min_of(low, index);
      high = max_of(high, index + 1);
    }
  if (low > high) low = high = 0;
}

// Where the inputs of each block of outputs begin, tap for tap; whether they fit into two blocks.
template <class T>
bool find_windows(const AxisGroup<T>& group, std::int32_t* windows) {
  if (group.span < 2 * kAxisBlock) {  // so does the whole line, with the zero slot
    for (index_t i = 0; i < group.taps * group.pitch / kAxisBlock; ++i) windows[i] = 0;
    return true;
  }
  const auto missing = static_cast<std::int32_t>(group.span);
  for (index_t t = 0; t < group.taps; ++t)
    for (index_t p = 0; p < group.length; p += kAxisBlock) {
      const std::int32_t* const index = group.index + t * group.pitch + p;
      std::int32_t low = missing, high = 0;
      for (index_t l = 0; l < min_of(kAxisBlock, group.length - p); ++l) {
        if (index[l] == missing) continue;
        low = min_of(low, index[l]);
        high = max_of(high, index[l]);
      }
      if (high - low >= 2 * kAxisBlock) return false;
      // Vectors as they were written are read fastest.
      const std::int32_t whole = low / kAxisBlock * kAxisBlock;
      windows[(t * group.pitch + p) / kAxisBlock] = high - whole < 2 * kAxisBlock ? whole : low;
    }
  return true;
}

}  // namespace

template <class T>
Axis<T>::Axis(const TapsView& taps, const char* name, bool transposed) {
  check_taps(taps, name);
  groups_.resize(static_cast<std::size_t>(taps.groups));
  for (index_t g = 0; g < taps.groups; ++g) {
    index_at_.push_back(index_.size());
    count_at_.push_back(count_.size());
    if (transposed)
      transpose(taps, g);
    else
      forward(taps, g);
  }
  window_.resize(index_.size() / kAxisBlock);
  for (std::size_t g = 0; g < groups_.size(); ++g) {  // the vectors do not move any more
    AxisGroup<T>& group = groups_[g];
    group.index = index_.data() + index_at_[g];
    std::int32_t* const windows = window_.data() + index_at_[g] / kAxisBlock;
    if (find_windows(group, windows)) group.window = windows;
    group.weight = weight_.data() + index_at_[g];
    group.count = count_.data() + count_at_[g];
    recognise(group);
    widest_ = max_of(widest_, group.span);
    longest_ = max_of(longest_, group.line());
    mean_work_ += static_cast<double>(group.taps * group.length);
  }
  if (!groups_.empty()) mean_work_ /= static_cast<double>(groups_.size());
}

template <class T>
void Axis<T>::forward(const TapsView& taps, index_t g) {
  AxisGroup<T>& group = groups_[static_cast<std::size_t>(g)];
  index_t high;
  input_range(taps, g, group.low, high);
  group.span = high - group.low;
  group.length = taps.length;
  for (index_t p = 0; p < taps.length; ++p) {
    count_.push_back(static_cast<std::int32_t>(taps.count[taps.row(g, p)]));
    group.taps = max_of(group.taps, count_.back());
  }
  group.pitch = round_up(group.length, kAxisBlock);
  const std::size_t start = add_slots(group);
  for (index_t p = 0; p < taps.length; ++p)
    for (index_t t = 0; t < taps.count[taps.row(g, p)]; ++t) {
      const index_t at = taps.row(g, p) * taps.taps + t;
      const std::size_t slot = start + static_cast<std::size_t>(t * group.pitch + p);
      index_[slot] = static_cast<std::int32_t>(taps.index[at] - group.low);
      weight_[slot] = static_cast<T>(taps.weight[at]);
    }
}

// Position i of the transpose mixes all p that have a tap at i, in the order of p.
template <class T>
void Axis<T>::transpose(const TapsView& taps, index_t g) {
  AxisGroup<T>& group = groups_[static_cast<std::size_t>(g)];
  index_t high;
  input_range(taps, g, group.begin, high);
  group.length = high - group.begin;
  group.span = taps.length;
  const std::size_t counts = count_.size();
  count_.resize(counts + static_cast<std::size_t>(group.length), 0);
  const auto each_tap = [&](auto&& visit) {
    for (index_t p = 0; p < taps.length; ++p)
      for (index_t t = 0; t < taps.count[taps.row(g, p)]; ++t) {
        const index_t at = taps.row(g, p) * taps.taps + t;
        visit(p, static_cast<std::size_t>(taps.index[at] - group.begin), taps.weight[at]);
      }
  };
  each_tap([&](index_t, std::size_t i, double) {
    group.taps = max_of(group.taps, ++count_[counts + i]);
  });
  group.pitch = round_up(group.length, kAxisBlock);
  const std::size_t start = add_slots(group);
  for (index_t i = 0; i < group.length; ++i) count_[counts + static_cast<std::size_t>(i)] = 0;
  each_tap([&](index_t p, std::size_t i, double weight) {
    const auto t = static_cast<std::size_t>(count_[counts + i]++);
    const std::size_t slot = start + t * static_cast<std::size_t>(group.pitch) + i;
    index_[slot] = static_cast<std::int32_t>(p);
    weight_[slot] = static_cast<T>(weight);
  });
}

// Room for the taps of a group: nothing but the zero slot, and slot 0 in the padding.
template <class T>
std::size_t Axis<T>::add_slots(const AxisGroup<T>& group) {
  const std::size_t start = index_.size();
  const std::size_t slots =
      start + static_cast<std::size_t>(checked_product(group.taps, group.pitch));
  index_.resize(slots, static_cast<std::int32_t>(group.span));
  weight_.resize(slots, T(0));
  for (index_t t = 0; t < group.taps; ++t)
    for (index_t p = group.length; p < group.pitch; ++p)
      index_[start + static_cast<std::size_t>(t * group.pitch + p)] = 0;
  return start;
}

// Finds the layouts that need no indices.
template <class T>
void Axis<T>::recognise(AxisGroup<T>& group) {
  const index_t n = group.length;
  group.full = true;
  for (index_t p = 0; p < n; ++p) group.full = group.full && group.count[p] == group.taps;
  if (!group.full || group.taps == 0 || n < 2) return;
  bool uniform = true;
  for (index_t t = 0; t < group.taps; ++t)
    for (index_t p = 1; p < n; ++p)
      uniform = uniform && group.weight[t * group.pitch + p] == group.weight[t * group.pitch];
  if (!uniform) return;
  const index_t step = group.index[1] - group.index[0];
  // only the steps that the loops know
  bool steps =
      (step == 1 && (group.taps == 1 || group.taps == 3)) || (step == 2 && group.taps == 2);
  bool repeats = group.taps == 1 && n == 2 * group.span;
  for (index_t p = 0; p < n && (steps || repeats); ++p) {
    for (index_t t = 0; t < group.taps; ++t)
      steps = steps && group.index[t * group.pitch + p] == group.index[t * group.pitch] + step * p;
    repeats = repeats && group.index[p] == p / 2;
  }
  group.step = steps ? step : 0;
  group.repeat = repeats ? 2 : 0;
}

template class Axis<float>;
template class Axis<double>;

}  // namespace cnncore
