// y (+)= Rows x Colsᵀ on one plane: sparse rows into a line that stays in L1, then sparse columns.
// See cpu/resample.cpp.
#include "cpu/isa/resample.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// line[i] = Σ_t weight · x[row t, low + i]: the rows that output row p mixes.
template <class T>
void mix_rows(const PlanePair<T>& plane, const AxisGroup<T>& rows, index_t p, index_t low,
              index_t span, T* __restrict line) {
  for (index_t t = 0; t < rows.count[p]; ++t) {
    const index_t slot = t * rows.length + p;
    const T weight = rows.weight[slot];
    const T* __restrict from = plane.x + (rows.low + rows.index[slot]) * plane.x_stride + low;
    if (t == 0)
      for (index_t i = 0; i < span; ++i) line[i] = weight * from[i];
    else
      for (index_t i = 0; i < span; ++i) line[i] += weight * from[i];
  }
}

template <bool accumulate, class T>
CNNCORE_HD void put(T& to, T value) {
  to = accumulate ? to + value : value;
}

// A fixed number of taps, so that the loop over them disappears.
template <bool accumulate, int taps, class T>
void mix_columns_fixed(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  const index_t n = cols.length;
  const std::int32_t* __restrict index = cols.index;
  const T* __restrict weight = cols.weight;
  for (index_t q = 0; q < n; ++q) {
    T sum = weight[q] * line[index[q]];
    for (int t = 1; t < taps; ++t) sum += weight[t * n + q] * line[index[t * n + q]];
    put<accumulate>(y[q], sum);
  }
}

template <bool accumulate, int step, int taps, class T>
void mix_columns_step(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  const index_t n = cols.length;
  const T* from[taps];
  T weight[taps];
  for (int t = 0; t < taps; ++t) {
    from[t] = line + cols.index[t * n];
    weight[t] = cols.weight[t * n];
  }
  for (index_t q = 0; q < n; ++q) {
    T sum = weight[0] * from[0][step * q];
    for (int t = 1; t < taps; ++t) sum += weight[t] * from[t][step * q];
    put<accumulate>(y[q], sum);
  }
}

template <bool accumulate, class T>
void mix_columns_repeat2(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  const T weight = cols.weight[0];
  for (index_t s = 0; s < cols.span; ++s) {
    const T value = weight * line[s];
    put<accumulate>(y[2 * s], value);
    put<accumulate>(y[2 * s + 1], value);
  }
}

// y[q] (+)= Σ_t weight · line[index]: what output column q mixes.
template <bool accumulate, class T>
void mix_columns(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  if (cols.repeat == 2) return mix_columns_repeat2<accumulate>(line, cols, y);
  if (cols.step == 1 && cols.taps == 1) return mix_columns_step<accumulate, 1, 1>(line, cols, y);
  if (cols.step == 1 && cols.taps == 3) return mix_columns_step<accumulate, 1, 3>(line, cols, y);
  if (cols.step == 2 && cols.taps == 2) return mix_columns_step<accumulate, 2, 2>(line, cols, y);
  switch (cols.taps) {
    case 1:
      return mix_columns_fixed<accumulate, 1>(line, cols, y);
    case 2:
      return mix_columns_fixed<accumulate, 2>(line, cols, y);
    case 3:
      return mix_columns_fixed<accumulate, 3>(line, cols, y);
    case 4:
      return mix_columns_fixed<accumulate, 4>(line, cols, y);
    default:
      break;
  }
  const index_t n = cols.length;
  for (index_t q = 0; q < n; ++q) {
    T sum = 0;
    for (index_t t = 0; t < cols.count[q]; ++t)
      sum += cols.weight[t * n + q] * line[cols.index[t * n + q]];
    put<accumulate>(y[q], sum);
  }
}

template <class T>
bool same_row(const AxisGroup<T>& rows, index_t a, index_t b) {
  if (rows.count[a] != rows.count[b]) return false;
  for (index_t t = 0; t < rows.count[a]; ++t) {
    const index_t i = t * rows.length + a, j = t * rows.length + b;
    if (rows.index[i] != rows.index[j] || rows.weight[i] != rows.weight[j]) return false;
  }
  return true;
}

}  // namespace

// `line` holds cols.span + 1 elements.
template <class T>
void resample_plane_loop(const PlanePair<T>& plane, const AxisGroup<T>& rows,
                         const AxisGroup<T>& cols, T* line) {
  if (cols.taps == 0 && plane.accumulate) return;
  for (index_t p = 0; p < rows.length; ++p) {
    T* y = plane.y + (rows.begin + p) * plane.y_stride + cols.begin;
    if (rows.count[p] == 0 || cols.taps == 0) {
      if (!plane.accumulate)
        for (index_t q = 0; q < cols.length; ++q) y[q] = 0;
    } else if (p > 0 && !plane.accumulate && same_row(rows, p, p - 1)) {
      const T* before = y - plane.y_stride;
      for (index_t q = 0; q < cols.length; ++q) y[q] = before[q];
    } else {
      const T* from = line;
      if (rows.count[p] == 1 && rows.weight[p] == T(1) && cols.full) {
        from = plane.x + (rows.low + rows.index[p]) * plane.x_stride + cols.low;
      } else {
        mix_rows(plane, rows, p, cols.low, cols.span, line);
        line[cols.span] = 0;
      }
      if (plane.accumulate)
        mix_columns<true>(from, cols, y);
      else
        mix_columns<false>(from, cols, y);
    }
  }
}

template void resample_plane_loop(const PlanePair<float>&, const AxisGroup<float>&,
                                  const AxisGroup<float>&, float*);
template void resample_plane_loop(const PlanePair<double>&, const AxisGroup<double>&,
                                  const AxisGroup<double>&, double*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
