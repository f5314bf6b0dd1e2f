// What the separable loops of max pooling are given; see isa/pool_separable.cpp.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/isa/pool.h"

namespace cnncore {

// A band of output rows is worked on at a time, so that the maxima along its input rows stay in
// the first-level cache.
template <class T>
struct SeparablePool {
  index_t height, width, out_height, out_width;
  Window2d window;
  index_t inside_begin, inside_end;  // windows that do not reach beyond a row; may be none
  index_t band;                      // output rows of a band

  CNNCORE_HD index_t pitch() const { return round_up(out_width, kPoolLanes); }
  // Input rows under a band, padding included.
  CNNCORE_HD index_t lines() const { return (band - 1) * window.h.stride + window.h.kernel; }
  // Elements of the working space of a padded row; vectors may run beyond its end.
  CNNCORE_HD index_t row_room() const {
    return pitch() * window.w.stride + window.w.kernel + 2 * kPoolLanes;
  }
};

// What a task works with: the array that may be read, space for a row and for the lines of a band.
template <class T>
struct PoolSpace {
  const T *begin, *end;
  T *row, *values;
  typename PoolIndex<T>::type* winners;
};

// Whether the separable loops know this window.
CNNCORE_HD bool separable_pool(const Window2d& window) {
  return window.h.dilation == 1 && window.w.dilation == 1 && window.w.stride <= 2;
}

}  // namespace cnncore
