// The transpose of depthwise.cpp for windows of 3x3 and 5x5 with stride 2: even and odd columns of
// the result are summed apart and interleaved. Include from there only.
//
// With r + before = 2 (u0 + t) + i: row u0 + t of y, tap i; likewise along the columns. A block is
// 2 R rows of x from 2 u0 - before on, 2 width columns from 2 v0 - before on; even rows take the
// even taps, even columns likewise.
#pragma once

#include "cpu/conv/depthwise.h"
#include "cpu/isa/depthwise_weights.h"
#include "cpu/isa/lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

template <class T, int K>
struct TransposedColumns {
  static constexpr int shifts = (K + 1) / 2;  // taps j and j + 1 (j even) read column v - j / 2

  TransposedColumns() {}
  CNNCORE_HD TransposedColumns(const DepthwisePlane<T>& p, index_t v0)
      : v0(v0),
        whole(v0 >= shifts - 1 && v0 + Simd<T>::width <= p.ow),
        column(2 * v0 - p.window.w.before),
        low(-column, p.width - column),
        high(-column - Simd<T>::width, p.width - column - Simd<T>::width) {
#pragma GCC unroll 3
    for (int s = 0; s < shifts; ++s) inside[s] = Lanes<T>(s - v0, p.ow - v0 + s);
  }

  index_t v0;
  bool whole;          // no lane of y lies outside
  index_t column;      // the first of x
  Lanes<T> low, high;  // of x
  Lanes<T> inside[shifts];
};

// kInside: all rows of y that are asked for lie in the plane, all those of x are wanted.
template <int R, bool kInside, bool kWhole, class T, int K>
CNNCORE_HD void transpose_block(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                                const TransposedColumns<T, K>& columns, const T* y, index_t u0,
                                T* x) {
  constexpr int shifts = TransposedColumns<T, K>::shifts;
  Vector<T> sum[2 * R][2];
#pragma GCC unroll 4
  for (int r = 0; r < 2 * R; ++r)
    sum[r][0] = sum[r][1] = broadcast(p.accumulate ? T(0) : p.start());
#pragma GCC unroll 8
  for (int t = 1 - shifts; t < R; ++t) {
    const index_t u = u0 + t;
    if (!kInside && (u < 0 || u >= p.oh)) continue;
    Vector<T> in[shifts];
#pragma GCC unroll 3
    for (int s = 0; s < shifts; ++s) {
      const T* const from = y + u * p.ow + columns.v0 - s;
      in[s] = kWhole ? load(from) : load_lanes(from, columns.inside[s]);
    }
#pragma GCC unroll 5
    for (int i = 0; i < K; ++i) {
      const int r = 2 * t + i;
      if (r < 0 || r >= 2 * R) continue;
#pragma GCC unroll 5
      for (int j = 0; j < K; ++j) sum[r][j % 2] += weights.at[i * K + j] * in[j / 2];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 2 * R; ++r) {
    const index_t row = 2 * u0 - p.window.h.before + r;
    if (!kInside && (row < p.first || row >= p.last)) continue;
    T* const to = x + row * p.width + columns.column;
    Vector<T> a = interleave_low(sum[r][0], sum[r][1], lane_numbers<T>());
    Vector<T> b = interleave_high(sum[r][0], sum[r][1], lane_numbers<T>());
    if (p.accumulate) {
      a += load_lanes(to, columns.low);
      b += load_lanes(to + Simd<T>::width, columns.high);
    }
    store_lanes(to, a, columns.low);
    store_lanes(to + Simd<T>::width, b, columns.high);
  }
}

template <int R, class T, int K>
CNNCORE_HD void transpose_rows(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                               const TransposedColumns<T, K>* columns, index_t count, const T* y,
                               index_t u, T* x) {
  const index_t top = 2 * u - p.window.h.before;
  const bool inside = u >= TransposedColumns<T, K>::shifts - 1 && u + R <= p.oh && top >= p.first &&
                      top + 2 * R <= p.last;
  for (index_t k = 0; k < count; ++k) {
    if (!inside)
      transpose_block<R, false, false>(p, weights, columns[k], y, u, x);
    else if (columns[k].whole)
      transpose_block<R, true, true>(p, weights, columns[k], y, u, x);
    else
      transpose_block<R, true, false>(p, weights, columns[k], y, u, x);
  }
}

// Rows of up to kVectors vectors as they lie in memory, as forward() does (depthwise.cpp).
template <class T, int K>
void transpose2(DepthwisePlane<T> first, index_t planes, const T* y, T* x) {
  constexpr index_t kVectors = 8, width = Simd<T>::width;
  const index_t begin = (first.first + first.window.h.before) / 2;
  const index_t end = ceil_div(first.last + first.window.h.before, 2);
  const index_t columns_end = ceil_div(first.width + first.window.w.before, 2);
  for (index_t v = 0; v < columns_end; v += kVectors * width) {
    TransposedColumns<T, K> columns[kVectors];
    index_t count = 0;
    for (; count < kVectors && v + count * width < columns_end; ++count)
      columns[count] = TransposedColumns<T, K>(first, v + count * width);
    DepthwisePlane<T> p = first;
    for (index_t k = 0; k < planes; ++k, p.next()) {
      const Weights<T, K> weights(p.weight);
      const T* const from = y + k * p.oh * p.ow;
      T* const to = x + k * p.height * p.width;
      index_t u = begin;
      for (; u + 2 <= end; u += 2) transpose_rows<2>(p, weights, columns, count, from, u, to);
      if (u < end) transpose_rows<1>(p, weights, columns, count, from, u, to);
    }
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
