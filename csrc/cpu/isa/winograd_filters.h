// Filters on their way to the transformed domain of cpu/conv/winograd_kernels.h: read, taken apart
// into phases, transformed. Include from csrc/cpu/isa only.
#pragma once

#include <type_traits>
#include <utility>

#include "cpu/conv/winograd_kernels.h"
#include "cpu/isa/simd.h"
#include "cpu/isa/transpose.h"
#include "cpu/isa/winograd_axis.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// The form along an axis of a phase of that parity.
template <class F, int taps, int parity>
using PhaseAxis = std::conditional_t<taps == 3 && parity == 1, OneTap<F>, F>;

template <class F, int taps, int phase>
using PhaseRows = PhaseAxis<F, taps, kWinogradPhases[phase].row>;
template <class F, int taps, int phase>
using PhaseColumns = PhaseAxis<F, taps, kWinogradPhases[phase].column>;

// u[(i * n + j) * stride] = G g Gᵀ by one form along the columns and one along the rows.
template <class Rows, class Columns, int n, class V, class T>
CNNCORE_HD void transform_filter(const V* g, T* u, index_t stride) {
  V half[Rows::points][Columns::taps];
#pragma GCC unroll 3
  for (int j = 0; j < Columns::taps; ++j) {
    V column[Rows::taps], t[Rows::points];
#pragma GCC unroll 3
    for (int i = 0; i < Rows::taps; ++i) column[i] = g[i * Columns::taps + j];
    Rows::weight(column, t);
#pragma GCC unroll 6
    for (int i = 0; i < Rows::points; ++i) half[i][j] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Rows::points; ++i) {
    V t[Columns::points];
    Columns::weight(half[i], t);
#pragma GCC unroll 6
    for (int j = 0; j < Columns::points; ++j) store(u + (i * n + j) * stride, t[j]);
  }
}

// The taps of one depth as vectors over the lanes. A filter's taps lie side by side: whole squares
// are read along them and transposed. Where a vector is longer than a filter, what follows the
// filter is read too and dropped, unless that would pass the end of the array. The lanes, or the
// depths, lie a row of filters apart, which no hardware foresees: what follows is asked for.
template <class T, int taps>
CNNCORE_HD void read_filters(const WinogradFilters<T>& filters, index_t k,
                             typename Simd<T>::vector* g) {
  using V = typename Simd<T>::vector;
  constexpr int width = Simd<T>::width;
  const T* const from = filters.data + k * filters.depth;
  constexpr int whole = width > taps ? 1 : taps / width, read = width > taps ? taps : width;
#pragma GCC unroll 4
  for (int square = 0; square < whole; ++square) {
    V a[width];
#pragma GCC unroll 16
    for (int l = 0; l < width; ++l) {
      const T* const p = from + l * filters.lane + square * width;
      __builtin_prefetch(p + 4 * filters.depth);
      if (l >= filters.lanes) {
        a[l] = V{};
      } else if (width > taps && p + width > filters.end) {
        alignas(kVectorBytes) T last[width] = {};
        for (int t = 0; t < taps; ++t) last[t] = p[t];
        a[l] = load(last);
      } else {
        a[l] = load(p);
      }
    }
    transpose_square<T>(a);
#pragma GCC unroll 16
    for (int t = 0; t < read; ++t) g[square * width + t] = a[t];
  }
#pragma GCC unroll 8
  for (int t = whole * width; t < taps; ++t) {
    alignas(kVectorBytes) T lanes[width] = {};
    for (int l = 0; l < filters.lanes; ++l) lanes[l] = from[l * filters.lane + t];
    g[t] = load(lanes);
  }
  if (filters.flip) {
#pragma GCC unroll 8
    for (int t = 0; t < taps / 2; ++t) {
      const V other = g[t];
      g[t] = g[taps - 1 - t];
      g[taps - 1 - t] = other;
    }
  }
}

// How a form transforms the taps of one filter.
template <class T, class F>
struct Whole {
  static constexpr int taps = F::taps * F::taps;
  static CNNCORE_HD void transform(const typename Simd<T>::vector* g, T* u, index_t stride,
                                   index_t) {
    transform_filter<F, F, F::points>(g, u, stride);
  }
};

// A phase has every second tap along either axis, from its parity on.
template <class T, class F, int side>
struct Phases {
  static constexpr int taps = side * side;

  template <int phase>
  static CNNCORE_HD void one(const typename Simd<T>::vector* g, T* u, index_t stride) {
    using Rows = PhaseRows<F, side, phase>;
    using Columns = PhaseColumns<F, side, phase>;
    constexpr int row = kWinogradPhases[phase].row, column = kWinogradPhases[phase].column;
    typename Simd<T>::vector part[Rows::taps * Columns::taps];
#pragma GCC unroll 2
    for (int i = 0; i < Rows::taps; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < Columns::taps; ++j)
        part[i * Columns::taps + j] = g[(2 * i + row) * side + 2 * j + column];
    transform_filter<Rows, Columns, F::points>(part, u, stride);
  }

  static CNNCORE_HD void transform(const typename Simd<T>::vector* g, T* u, index_t stride,
                                   index_t phase) {
    one<0>(g, u, stride);
    one<1>(g, u + phase, stride);
    one<2>(g, u + 2 * phase, stride);
    one<3>(g, u + 3 * phase, stride);
  }
};

template <class T, class Filter>
void weights(const WinogradFilters<T>& filters, index_t count, T* u, index_t stride, index_t next,
             index_t phase) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
    read_filters<T, taps>(filters, k, g);
    Filter::transform(g, u + k * next, stride, phase);
  }
}

template <class T, class Filter>
void pack(const WinogradFilters<T>& filters, index_t count, T* packed, index_t next) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
    read_filters<T, taps>(filters, k, g);
    for (int t = 0; t < taps; ++t) store(packed + k * next + t * Simd<T>::width, g[t]);
  }
}

template <class T, class Filter>
void packed_weights(const T* packed, index_t packed_next, index_t count, T* u, index_t stride,
                    index_t next, index_t phase) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
#pragma GCC unroll 16
    for (int t = 0; t < taps; ++t) g[t] = load(packed + k * packed_next + t * Simd<T>::width);
    Filter::transform(g, u + k * next, stride, phase);
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
