// The loops of cpu/conv/depthwise.h for any window: one vector of results at a time, no reuse
// between taps. The plain version beside depthwise.cpp. Include from there only.
#pragma once

#include "cpu/conv/depthwise.h"
#include "cpu/isa/lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// Lane l is row[column + l * step], zero where that lies outside 0..width or l >= count.
template <class T>
CNNCORE_HD typename Simd<T>::vector load_apart(const T* row, index_t width, index_t column,
                                               index_t step, index_t count) {
  if (step == 1) return load_lanes(row + column, Lanes<T>(-column, min_of(count, width - column)));
  typename Simd<T>::vector v{};
  for (index_t lane = 0; lane < min_of(count, Simd<T>::width); ++lane) {
    const index_t at = column + lane * step;
    if (at >= 0 && at < width) v[lane] = row[at];
  }
  return v;
}

template <class T>
void forward_any(const DepthwisePlane<T>& p, const T* x, T* y) {
  const Window1d &h = p.window.h, &w = p.window.w;
  for (index_t u = p.first; u < p.last; ++u) {
    index_t first, last;
    h.taps_inside(u, p.height, first, last);
    for (index_t v = 0; v < p.ow; v += Simd<T>::width) {
      const Lanes<T> lanes(0, p.ow - v);
      T* const to = y + u * p.ow + v;
      auto sum = p.accumulate ? load_lanes(to, lanes) : broadcast(p.start());
      for (index_t i = first; i < last; ++i)
        for (index_t j = 0; j < w.kernel; ++j)
          sum += p.weight[i * w.kernel + j] * load_apart(x + h.input(u, i) * p.width, p.width,
                                                         w.input(v, j), w.stride, p.ow - v);
      store_lanes(to, sum, lanes);
    }
  }
}

// Row r of x gets tap i from row (r + before - i d) / s of y where that is whole; columns likewise.
template <class T>
void transpose_any(const DepthwisePlane<T>& p, const T* y, T* x) {
  const Window1d &h = p.window.h, &w = p.window.w;
  for (index_t r = p.first; r < p.last; ++r)
    for (index_t phase = 0; phase < min_of(w.stride, p.width); ++phase) {
      const index_t count = ceil_div(p.width - phase, w.stride);
      for (index_t v = 0; v < count; v += Simd<T>::width) {
        const index_t lanes = min_of(count - v, Simd<T>::width);
        T* const to = x + r * p.width + phase + v * w.stride;
        auto sum = p.accumulate ? load_apart(to, lanes * w.stride, 0, w.stride, lanes)
                                : broadcast(p.start());
        for (index_t i = 0; i < h.kernel; ++i) {
          const index_t up = r + h.before - i * h.dilation;
          if (up < 0 || up % h.stride != 0 || up / h.stride >= p.oh) continue;
          for (index_t j = 0; j < w.kernel; ++j) {
            const index_t left = phase + w.before - j * w.dilation;
            if (left % w.stride != 0) continue;
            sum += p.weight[i * w.kernel + j] *
                   load_apart(y + up / h.stride * p.ow, p.ow, v + left / w.stride, 1, lanes);
          }
        }
        for (index_t lane = 0; lane < lanes; ++lane) to[lane * w.stride] = sum[lane];
      }
    }
}

template <class T>
void weight_any(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, const T* x, const T* gy,
                T* gweight) {
  const Window1d &h = p.window.h, &w = p.window.w;
  for (index_t i = 0; i < h.kernel; ++i)
    for (index_t j = 0; j < w.kernel; ++j) {
      typename Simd<T>::vector sum{};
      for (index_t n = 0; n < all.images; ++n)
        for (index_t u = p.first; u < p.last; ++u) {
          const index_t row = h.input(u, i);
          if (row < 0 || row >= p.height) continue;
          const T* const from = x + n * all.x_stride + row * p.width;
          const T* const with = gy + n * all.y_stride + u * p.ow;
          for (index_t v = 0; v < p.ow; v += Simd<T>::width)
            sum += load_lanes(with + v, Lanes<T>(0, p.ow - v)) *
                   load_apart(from, p.width, w.input(v, j), w.stride, p.ow - v);
        }
      T total = 0;
      for (index_t lane = 0; lane < Simd<T>::width; ++lane) total += sum[lane];
      gweight[i * w.kernel + j] = total;
    }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
