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

constexpr index_t kStrip = 32;  // rows of a strip, one vector of columns wide

template <class T, int K>
struct TransposedColumns {
  static constexpr int shifts = (K + 1) / 2;  // taps j and j + 1 (j even) read column v - j / 2

  CNNCORE_HD TransposedColumns(const DepthwisePlane<T>& p, index_t v0)
      : v0(v0),
        column(2 * v0 - p.window.w.before),
        low(-column, p.width - column),
        high(-column - Simd<T>::width, p.width - column - Simd<T>::width) {
#pragma GCC unroll 3
    for (int s = 0; s < shifts; ++s) inside[s] = Lanes<T>(s - v0, p.ow - v0 + s);
  }

  index_t v0, column;  // the first column of y, of x
  Lanes<T> low, high;  // of x
  Lanes<T> inside[shifts];
};

template <int R, bool kWhole, class T, int K>
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
    if (u < 0 || u >= p.oh) continue;
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
    if (row < p.first || row >= p.last) continue;
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

template <bool kWhole, class T, int K>
CNNCORE_HD void transpose_strip(const DepthwisePlane<T>& p, const Weights<T, K>& weights, index_t v,
                                index_t u, index_t end, const T* y, T* x) {
  const TransposedColumns<T, K> columns(p, v);
  for (; u + 2 <= end; u += 2) transpose_block<2, kWhole>(p, weights, columns, y, u, x);
  if (u < end) transpose_block<1, kWhole>(p, weights, columns, y, u, x);
}

template <class T, int K>
void transpose2(const DepthwisePlane<T>& p, const T* y, T* x) {
  const Weights<T, K> weights(p.weight);
  const index_t first = (p.first + p.window.h.before) / 2;
  const index_t last = ceil_div(p.last + p.window.h.before, 2);
  const index_t end = ceil_div(p.width + p.window.w.before, 2);
  for (index_t u = first; u < last; u += kStrip)
    for (index_t v = 0; v < end; v += Simd<T>::width) {
      const index_t until = min_of(last, u + kStrip);
      if (v >= K / 2 && v + Simd<T>::width <= p.ow)
        transpose_strip<true, T, K>(p, weights, v, u, until, y, x);
      else
        transpose_strip<false, T, K>(p, weights, v, u, until, y, x);
    }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
