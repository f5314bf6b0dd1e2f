// Taps along one axis, checked and brought into the form that the loops of resampling read.
#pragma once

#include <cstddef>
#include <vector>

#include "cnncore/taps.h"
#include "cpu/isa/resample.h"

namespace cnncore {

// The matrices of all groups of one axis, or their transposes.
template <class T>
class Axis {
 public:
  // Refuses counts and indices outside their range, naming the argument.
  Axis(const TapsView& taps, const char* name, bool transposed);

  const AxisGroup<T>& group_of(index_t region) const {
    return groups_[groups_.size() == 1 ? 0 : static_cast<std::size_t>(region)];
  }
  // The one matrix of all regions; null where they have their own.
  const AxisGroup<T>* shared() const { return groups_.size() == 1 ? groups_.data() : nullptr; }
  index_t line() const { return longest_; }        // of any group
  index_t widest() const { return widest_; }       // the largest span
  double mean_work() const { return mean_work_; }  // multiply-adds of an average group

 private:
  void forward(const TapsView& taps, index_t g);
  void transpose(const TapsView& taps, index_t g);
  std::size_t add_slots(const AxisGroup<T>& group);
  void recognise(AxisGroup<T>& group);

  std::vector<AxisGroup<T>> groups_;
  std::vector<std::size_t> index_at_, count_at_;
  std::vector<std::int32_t> index_, count_, window_;  // one window for kAxisBlock indices
  std::vector<T> weight_;
  index_t widest_ = 0, longest_ = 0;
  double mean_work_ = 0;
};

}  // namespace cnncore
