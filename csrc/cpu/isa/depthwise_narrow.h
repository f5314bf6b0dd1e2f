// The loops of cpu/conv/depthwise.h for planes whose rows end within one vector of results (7x7 and
// 14x14, where half of a network's depthwise layers work). Include from depthwise.cpp only.
//
// A row of 7 or 14 columns leaves most of what Columns (depthwise.cpp) loads masked, and every tap
// is a masked load of its own. Here a row is loaded once, and a tap is a permutation of it: lane l
// takes the column that tap j of result l reads, or zero outside the plane, whatever the stride and
// the padding. Where a row of results fills half a vector at most, two rows share one. What to load
// and what to pick is worked out once for many planes, so that a plane is one run of instructions
// without a branch: rows outside it are loaded with no lane.
// (7x7: 36 multiply-adds and 27 permutations of 9 loads, where one row a vector needs 57 of 33.)
#pragma once

#include "cpu/conv/depthwise.h"
#include "cpu/isa/depthwise_weights.h"
#include "cpu/isa/lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

#if defined(__AVX512F__)

// How the taps of kRows rows of results, which lie in one vector, are found in a narrow plane: from
// one vector of x (rows of stride 1 follow each other), or from two: rows S apart, or the halves of
// one row.
template <class T, int K, int S, int kRows>
class NarrowRows {
 public:
  static constexpr index_t width = Simd<T>::width;
  static constexpr index_t tallest = 64;

  static bool serves(const DepthwisePlane<T>& p) {
    const index_t room = S == 1 ? width / kRows : kRows == 1 ? 2 * width : width;
    const index_t bottom = p.window.h.start(p.oh - 1);
    return kRows * p.ow <= width && p.width <= room && p.height <= tallest &&
           p.window.h.before < K && bottom < p.height;
  }

  // Lanes of the rows of results from `rows` on get zeros.
  CNNCORE_HD NarrowRows(const DepthwisePlane<T>& p, index_t rows)
      : pitch_(p.width), second_(kRows > 1 ? S * p.width : width) {
    for (index_t r = 0; r < p.height + 2 * kReach; ++r) {
      const index_t row = r - kReach;
      if (S == 1) {
        first_[r] = Lanes<T>(-row * p.width, min_of(kRows, p.height - row) * p.width);
        continue;
      }
      const index_t next = kRows > 1 ? row + S : row;
      first_[r] = Lanes<T>(0, inside(p, row) ? p.width : 0);
      next_[r] = Lanes<T>(0, !inside(p, next) ? 0 : kRows > 1 ? p.width : p.width - width);
    }
    index_t from[K][width];
    for (index_t lane = 0, row = 0, v = 0; lane < width; ++lane) {
      for (int j = 0; j < K; ++j) {
        const index_t column = p.window.w.input(v, j);
        const bool taken = row < rows && column >= 0 && column < p.width;
        from[j][lane] = taken ? row * (S == 1 ? p.width : width) + column : -1;
      }
      if (++v < p.ow) continue;
      v = 0;
      ++row;
    }
    for (int j = 0; j < K; ++j) picks_[j] = Picks<T>(from[j]);
  }

  // What rows of results read of row `row` of x (and of rows S apart below it).
  CNNCORE_HD void load_row(const T* x, index_t row, Vector<T> (&taps)[K]) const {
    const T* const from = x + row * pitch_;
    const Vector<T> a = load_lanes(from, first_[row + kReach]);
    const Vector<T> b = S == 1 ? a : load_lanes(from + second_, next_[row + kReach]);
  #pragma GCC unroll 7
    for (int j = 0; j < K; ++j) taps[j] = S == 1 ? picks_[j].of(a) : picks_[j].of(a, b);
  }

 private:
  static CNNCORE_HD bool inside(const DepthwisePlane<T>& p, index_t row) {
    return row >= 0 && row < p.height;
  }

  static constexpr int kReach = K + S * kRows;  // rows outside the plane that may be asked for
  index_t pitch_, second_;
  Lanes<T> first_[tallest + 2 * kReach], next_[tallest + 2 * kReach];
  Picks<T> picks_[K];
};

// R vectors of results from row u on; `last`: the lanes of the last of them.
template <int R, class T, int K, int S, int kRows>
CNNCORE_HD void narrow_block(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                             const NarrowRows<T, K, S, kRows>& rows, const T* x, index_t u, T* y) {
  constexpr int step = S * kRows;
  const index_t pitch = kRows * p.ow;
  const Lanes<T> all(0, pitch), last(0, min_of(kRows, p.last - u - (R - 1) * kRows) * p.ow);
  T* const to = y + u * p.ow;
  Vector<T> sum[R];
  #pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    sum[r] =
        p.accumulate ? load_lanes(to + r * pitch, r < R - 1 ? all : last) : broadcast(p.start());
  const index_t top = p.window.h.start(u);
  #pragma GCC unroll 32
  for (int t = 0; t < (R - 1) * step + K; ++t) {
    if (t >= K && t % step >= K) continue;
    Vector<T> taps[K];
    rows.load_row(x, top + t, taps);
  #pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * step;
      if (i < 0 || i >= K) continue;
  #pragma GCC unroll 7
      for (int j = 0; j < K; ++j) sum[r] += weights.at[i * K + j] * taps[j];
    }
  }
  #pragma GCC unroll 4
  for (int r = 0; r < R; ++r) store_lanes(to + r * pitch, sum[r], r < R - 1 ? all : last);
}

template <class T, int K, int S, int kRows>
void forward_narrow(DepthwisePlane<T> p, index_t planes, const T* x, T* y) {
  const NarrowRows<T, K, S, kRows> rows(p, kRows);
  for (; planes > 0; --planes, x += p.height * p.width, y += p.oh * p.ow, p.next()) {
    const Weights<T, K> weights(p.weight);
    index_t u = p.first;
    for (; u + 3 * kRows < p.last; u += 4 * kRows) narrow_block<4>(p, weights, rows, x, u, y);
    for (; u + kRows < p.last; u += 2 * kRows) narrow_block<2>(p, weights, rows, x, u, y);
    for (; u < p.last; u += kRows) narrow_block<1>(p, weights, rows, x, u, y);
  }
}

// R vectors of gy from row u on, `lanes` of each: sum[i K + j] += gy x.
template <int R, class T, int K, int S, int kRows>
CNNCORE_HD void narrow_weight_block(const DepthwisePlane<T>& p,
                                    const NarrowRows<T, K, S, kRows>& rows, const Lanes<T>& lanes,
                                    const T* x, const T* gy, index_t u, Vector<T> (&sum)[K * K]) {
  constexpr int step = S * kRows;
  Vector<T> g[R];
  #pragma GCC unroll 4
  for (int r = 0; r < R; ++r) g[r] = load_lanes(gy + (u + r * kRows) * p.ow, lanes);
  const index_t top = p.window.h.start(u);
  #pragma GCC unroll 32
  for (int t = 0; t < (R - 1) * step + K; ++t) {
    if (t >= K && t % step >= K) continue;
    Vector<T> taps[K];
    rows.load_row(x, top + t, taps);
  #pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * step;
      if (i < 0 || i >= K) continue;
  #pragma GCC unroll 7
      for (int j = 0; j < K; ++j) sum[i * K + j] += g[r] * taps[j];
    }
  }
}

template <class T, int K, int S, int kRows>
void weight_narrow(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, index_t planes,
                   const T* x, const T* gy, T* gweight) {
  const NarrowRows<T, K, S, kRows> rows(p, kRows), single(p, 1);
  const Lanes<T> lanes(0, kRows * p.ow), half(0, p.ow);
  for (; planes > 0; --planes, x += p.height * p.width, gy += p.oh * p.ow, gweight += K * K) {
    Vector<T> sum[K * K];
  #pragma GCC unroll 9
    for (int k = 0; k < K * K; ++k) sum[k] = Vector<T>{};
    for (index_t n = 0; n < all.images; ++n) {
      const T *const from = x + n * all.x_stride, *const with = gy + n * all.y_stride;
      index_t u = p.first;
      for (; u + 4 * kRows <= p.last; u += 4 * kRows)
        narrow_weight_block<4>(p, rows, lanes, from, with, u, sum);
      for (; u + kRows <= p.last; u += kRows)
        narrow_weight_block<1>(p, rows, lanes, from, with, u, sum);
      if (u < p.last) narrow_weight_block<1>(p, single, half, from, with, u, sum);
    }
    total_lanes<T>(sum, gweight);
  }
}

template <class T, int K, int S, int kRows>
void use_narrow(DepthwiseKernels<T>& kernels) {
  kernels.forward = &forward_narrow<T, K, S, kRows>;
  // The 25 sums of a 5x5 gradient want all registers: those of depthwise.cpp.
  if constexpr (K == 3) kernels.weight = &weight_narrow<T, K, S, kRows>;
}

#endif

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
