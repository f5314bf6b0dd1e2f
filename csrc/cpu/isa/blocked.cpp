// Loops over pixels of blocked arrays: every pixel is one vector of channels.
#include "cpu/isa/blocked.h"

#include <math.h>

#include <type_traits>

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr int kPixels = 8;  // neighbouring results that share the loads of weights

template <class T>
CNNCORE_HD typename Simd<T>::vector limited(typename Simd<T>::vector y, T low, T high) {
  const typename Simd<T>::vector l = broadcast(low), h = broadcast(high);
  y = y <= l ? l : y;  // NaN stays
  return y > h ? h : y;
}

// Calls edge(output, first tap, last tap) for columns that see part of a window's columns, and
// inside(output, count) with a constant count for runs of those that see all of them.
template <class T, class Edge, class Inside>
CNNCORE_HD void for_columns(const BlockedRows<T>& rows, Edge edge, Inside inside) {
  const Window1d& w = rows.window.w;
  index_t begin, end, unused;
  w.outputs_inside(0, rows.width, rows.out_width, begin, unused);
  w.outputs_inside(w.kernel - 1, rows.width, rows.out_width, unused, end);
  end = max_of(begin, end);
  const auto edges = [&](index_t from, index_t to) {
    for (index_t j = from; j < to; ++j) {
      index_t first, last;
      w.taps_inside(j, rows.width, first, last);
      edge(j, first, last);
    }
  };
  edges(0, begin);
  index_t j = begin;
  for (; j + kPixels <= end; j += kPixels) inside(j, std::integral_constant<int, kPixels>());
  if (j + 4 <= end) {
    inside(j, std::integral_constant<int, 4>());
    j += 4;
  }
  if (j + 2 <= end) {
    inside(j, std::integral_constant<int, 2>());
    j += 2;
  }
  if (j < end) inside(j, std::integral_constant<int, 1>());
  edges(end, rows.out_width);
}

template <class T>
CNNCORE_HD void finish_pixel(typename Simd<T>::vector y, const BlockedFinish<T>& finish,
                             index_t place, T* to) {
  if (finish.residual != nullptr) y += load(finish.residual + place);
  store(to + place, limited<T>(y, finish.low, finish.high));
}

template <class T>
void depthwise(const BlockedRows<T>& rows, const BlockedFinish<T>& finish, const T* weight) {
  using Vector = typename Simd<T>::vector;
  constexpr index_t B = Simd<T>::width;
  const Window1d &h = rows.window.h, &w = rows.window.w;
  const Vector bias = load(finish.bias);
  index_t place = 0;
  for (index_t i = rows.first; i < rows.last; ++i, place += rows.out_width * B) {
    index_t first, last;
    h.taps_inside(i, rows.height, first, last);
    for_columns(
        rows,
        [&](index_t j, index_t first_w, index_t last_w) {
          Vector sum = bias;
          for (index_t u = first; u < last; ++u)
            for (index_t v = first_w; v < last_w; ++v)
              sum += load(weight + (u * w.kernel + v) * B) *
                     load(rows.x + (h.input(i, u) * rows.width + w.input(j, v)) * B);
          finish_pixel(sum, finish, place + j * B, rows.y);
        },
        [&](index_t j, auto count) {
          constexpr int n = decltype(count)::value;
          Vector sum[n];
#pragma GCC unroll 8
          for (int p = 0; p < n; ++p) sum[p] = bias;
          for (index_t u = first; u < last; ++u) {
            const T* from = rows.x + (h.input(i, u) * rows.width + w.input(j, 0)) * B;
            const T* tap = weight + u * w.kernel * B;
            const index_t step = w.stride * B;
            for (index_t v = 0; v < w.kernel; ++v, from += w.dilation * B, tap += B) {
              const Vector factor = load(tap);
#pragma GCC unroll 8
              for (int p = 0; p < n; ++p) sum[p] += factor * load(from + p * step);
            }
          }
#pragma GCC unroll 8
          for (int p = 0; p < n; ++p) finish_pixel(sum[p], finish, place + (j + p) * B, rows.y);
        });
  }
}

template <class T>
void pool_max(const BlockedRows<T>& rows) {
  using Vector = typename Simd<T>::vector;
  constexpr index_t B = Simd<T>::width;
  const Window1d &h = rows.window.h, &w = rows.window.w;
  T* y = rows.y;
  for (index_t i = rows.first; i < rows.last; ++i) {
    index_t first, last;
    h.taps_inside(i, rows.height, first, last);
    for (index_t j = 0; j < rows.out_width; ++j, y += B) {
      index_t first_w, last_w;
      w.taps_inside(j, rows.width, first_w, last_w);
      Vector best = broadcast(-static_cast<T>(INFINITY));
      for (index_t u = first; u < last; ++u)
        for (index_t v = first_w; v < last_w; ++v) {
          const Vector x = load(rows.x + (h.input(i, u) * rows.width + w.input(j, v)) * B);
          best = (x <= best) | (best != best) ? best : x;  // the first NaN stays
        }
      store(y, best);
    }
  }
}

template <class T>
void pool_mean(const BlockedRows<T>& rows, index_t divisor) {
  using Vector = typename Simd<T>::vector;
  constexpr index_t B = Simd<T>::width;
  const Window1d &h = rows.window.h, &w = rows.window.w;
  T* y = rows.y;
  for (index_t i = rows.first; i < rows.last; ++i) {
    index_t first, last;
    h.taps_inside(i, rows.height, first, last);
    for (index_t j = 0; j < rows.out_width; ++j, y += B) {
      index_t first_w, last_w;
      w.taps_inside(j, rows.width, first_w, last_w);
      Vector sum{};
      for (index_t u = first; u < last; ++u)
        for (index_t v = first_w; v < last_w; ++v)
          sum += load(rows.x + (h.input(i, u) * rows.width + w.input(j, v)) * B);
      const index_t count = (last - first) * (last_w - first_w);
      store(y, sum * (T(1) / static_cast<T>(divisor != 0 ? divisor : max_of(1, count))));
    }
  }
}

template <class T>
void affine(const T* x, const T* a, const BlockedFinish<T>& finish, T* y, index_t pixels) {
  constexpr index_t B = Simd<T>::width;
  const typename Simd<T>::vector factor = load(a), bias = load(finish.bias);
  for (index_t i = 0; i < pixels * B; i += B)
    finish_pixel(load(x + i) * factor + bias, finish, i, y);
}

// Sums of 64 pixels are added in T, those sums again: the error grows with the logarithm.
template <class T>
void mean(const T* x, index_t pixels, T* y) {
  using Vector = typename Simd<T>::vector;
  constexpr index_t B = Simd<T>::width;
  Vector total{};
  for (index_t begin = 0; begin < pixels; begin += 64) {
    const index_t end = min_of(pixels, begin + 64);
    Vector even{}, odd{};
    index_t i = begin;
    for (; i + 2 <= end; i += 2) {
      even += load(x + i * B);
      odd += load(x + i * B + B);
    }
    if (i < end) even += load(x + i * B);
    total += even + odd;
  }
  store(y, total * (T(1) / static_cast<T>(pixels)));
}

template <class T>
void copy_pixels(const T* x, const index_t* columns, index_t count, T* y) {
  constexpr index_t B = Simd<T>::width;
  for (index_t j = 0; j < count; ++j) store(y + j * B, load(x + columns[j] * B));
}

template <class T>
CNNCORE_HD BlockedLoops<T> make_loops() {
  return {&depthwise<T>, &pool_max<T>, &pool_mean<T>, &affine<T>, &mean<T>, &copy_pixels<T>};
}

}  // namespace

const BlockedLoops<float>& blocked_loops_f32() {
  static const BlockedLoops<float> loops = make_loops<float>();
  return loops;
}

const BlockedLoops<double>& blocked_loops_f64() {
  static const BlockedLoops<double> loops = make_loops<double>();
  return loops;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
