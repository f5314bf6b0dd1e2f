// Sparse sampling along one axis, and integer bins: the host and device view of cnncore/taps.py,
// which alone says where they fall.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

// (G, P, T) index and weight, (G, P) count: output p of group g is the sum of its first count taps.
struct TapsView {
  index_t size, groups, length, taps;
  const std::int64_t* index;
  const double* weight;
  const std::int64_t* count;

  CNNCORE_HD index_t row(index_t group, index_t p) const { return group * length + p; }
  // Regions share one group where there is only one.
  CNNCORE_HD index_t group_of(index_t region) const { return groups == 1 ? 0 : region; }
};

// (G, P) half-open intervals of 0..size.
struct BinsView {
  index_t size, groups, length;
  const std::int64_t* start;
  const std::int64_t* end;

  CNNCORE_HD index_t row(index_t region, index_t p) const {
    return (groups == 1 ? 0 : region) * length + p;
  }
};

// One tap sum over a plane, both axes at once: Σ_s Σ_t rows[s] cols[t] x[row index s, col index t].
template <class T>
CNNCORE_HD T sample_plane(const T* x, const TapsView& rows, index_t row, const TapsView& cols,
                          index_t col) {
  T sum = 0;
  for (index_t s = 0; s < rows.count[row]; ++s) {
    const T* line = x + rows.index[row * rows.taps + s] * cols.size;
    T part = 0;
    for (index_t t = 0; t < cols.count[col]; ++t)
      part +=
          static_cast<T>(cols.weight[col * cols.taps + t]) * line[cols.index[col * cols.taps + t]];
    sum += static_cast<T>(rows.weight[row * rows.taps + s]) * part;
  }
  return sum;
}

// The maximum of a rectangle: ties to the lowest flat index, NaN wins. `best` and `winner` (a flat
// index h · width + w) are left alone where the rectangle is empty.
template <class T>
CNNCORE_HD void rectangle_max(const T* x, index_t width, index_t h0, index_t h1, index_t w0,
                              index_t w1, T& best, std::int64_t& winner) {
  bool first = true;
  for (index_t h = h0; h < h1; ++h)
    for (index_t w = w0; w < w1; ++w) {
      const T value = x[h * width + w];
      if (first || (!(value <= best) && best == best)) {
        best = value;
        winner = h * width + w;
        first = false;
      }
    }
}

}  // namespace cnncore
