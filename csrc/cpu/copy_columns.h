// Pixels of a row as convolutions with a stride want them: every step-th, with zeros around.
#pragma once

#include <algorithm>

#include "cpu/plane_tile.h"

namespace cnncore {

// to[i] = from[column + i * step] for i < count, zero outside the `width` columns of the row.
template <class T>
void copy_columns(const PlaneTileKernels<T>& kernels, const T* from, index_t width, index_t column,
                  index_t step, index_t count, T* to) {
  index_t begin, end;
  Window1d{1, step, -column, 0, 1}.outputs_inside(0, width, count, begin, end);
  std::fill_n(to, begin, T(0));
  from += column + begin * step;
  if (begin < end) {
    if (step == 1)
      std::copy_n(from, end - begin, to + begin);
    else if (step == 2)
      kernels.skip(from, end - begin, to + begin);
    else
      for (index_t i = begin; i < end; ++i) to[i] = from[(i - begin) * step];
  }
  std::fill_n(to + end, count - end, T(0));
}

}  // namespace cnncore
