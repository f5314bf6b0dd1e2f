// What the loops of max pooling to half the size are given; see isa/pool_half.cpp.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/isa/pool.h"

namespace cnncore {

template <class T>
struct HalfPool {
  index_t height, width, out_height, out_width;
  index_t kernel;     // 2 or 3, of both axes
  index_t top, left;  // padding before, 0 or 1
  index_t whole;      // windows of a row that do not reach beyond its end
  bool streams;    // winners go past the caches: rows of them are whole lines, one vector at least
  const T* begin;  // of the array
  index_t last;    // place in it from which a row may be read

  // Elements that the vectors of a row read, padding included.
  CNNCORE_HD index_t row_room() const { return 2 * pitch() + 2; }
  CNNCORE_HD index_t pitch() const { return round_up(out_width, kPoolLanes); }
};

// Working space of a task: two rows of row_room() elements, two lines of pitch().
template <class T>
struct HalfPoolSpace {
  T *rows, *values;
  typename PoolIndex<T>::type* winners;
};

// Whether these loops know this window.
CNNCORE_HD bool halves(const Window1d& w) {
  return w.stride == 2 && w.dilation == 1 && w.before <= 1 && (w.kernel == 2 || w.kernel == 3);
}
CNNCORE_HD bool halves(const Window2d& window) {
  return halves(window.h) && halves(window.w) && window.h.kernel == window.w.kernel;
}

}  // namespace cnncore
