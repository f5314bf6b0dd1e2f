// What the loops of max pooling are given; see cpu/pool.cpp.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

// Indices of the width of the values, so that one mask selects both.
template <class T>
struct PoolIndex;
template <>
struct PoolIndex<float> {
  using type = std::int32_t;
};
template <>
struct PoolIndex<double> {
  using type = std::int64_t;
};

// A row of the plane is split by column modulo the stride, and padded with -infinity, so that the
// taps of neighbouring windows lie side by side: tap kw of window ow stands at
// phases[kw · dilation % stride][ow + kw · dilation / stride].
template <class T>
struct MaxPoolPlan {
  index_t height, width, out_height, out_width;
  Window2d window;
  index_t pitch;  // of one phase of one row: room for whole vectors beyond the last window
  // (OW,), readable in whole vectors: column of the first tap inside the plane, less ow · stride.
  const typename PoolIndex<T>::type* first_offset;

  CNNCORE_HD index_t phases() const { return min_of(window.w.stride, window.w.extent()); }
  CNNCORE_HD index_t scratch() const { return height * phases() * pitch; }
};

constexpr index_t kPoolLanes = 16;  // the widest vector of any instruction set

}  // namespace cnncore
