// Loops of the softmax, down columns and along rows. See cpu/softmax.cpp.
#include "cnncore/geometry.h"
#include "cnncore/math.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr index_t kTile = 128;  // columns worked on together
constexpr index_t kLanes = 16;  // partial results of a row: a fixed order of addition

CNNCORE_HD float logarithm(float x) {
  return ::logf(x);
}
CNNCORE_HD double logarithm(double x) {
  return ::log(x);
}

// A NaN may be missed here: it comes back with the exponentials.
template <class T>
T largest(const T* x, index_t n) {
  T lanes[kLanes];
  T top = x[0];
  index_t i = 0;
  if (n >= kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = x[lane];
    for (i = kLanes; i + kLanes <= n; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane)
        lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (int lane = 0; lane < kLanes; ++lane) top = lanes[lane] > top ? lanes[lane] : top;
  }
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

template <class T>
T sum(const T* x, index_t n) {
  T lanes[kLanes] = {};
  index_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  T total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += lanes[lane];
  for (; i < n; ++i) total += x[i];
  return total;
}

}  // namespace

template <class T>
void softmax_rows_loop(const T* __restrict x, index_t rows, index_t length, bool log,
                       T* __restrict y) {
  for (index_t r = 0; r < rows; ++r, x += length, y += length) {
    const T top = largest(x, length);
    for (index_t k = 0; k < length; ++k) y[k] = exponential(x[k] - top);
    const T total = sum(y, length);
    if (log) {
      const T shift = logarithm(total);
      for (index_t k = 0; k < length; ++k) y[k] = (x[k] - top) - shift;
    } else {
      for (index_t k = 0; k < length; ++k) y[k] /= total;
    }
  }
}

template <class T>
void softmax_columns_loop(const T* x, index_t length, index_t inner, index_t columns, bool log,
                          T* y) {
  for (index_t begin = 0; begin < columns; begin += kTile) {
    const index_t width = min_of(kTile, columns - begin);
    T top[kTile], total[kTile];
    for (index_t i = 0; i < width; ++i) {
      top[i] = x[begin + i];
      total[i] = 0;
    }
    for (index_t k = 1; k < length; ++k) {
      const T* __restrict row = x + k * inner + begin;
      for (index_t i = 0; i < width; ++i) top[i] = row[i] > top[i] ? row[i] : top[i];
    }
    for (index_t k = 0; k < length; ++k) {
      const T* __restrict row = x + k * inner + begin;
      T* __restrict out = y + k * inner + begin;
      for (index_t i = 0; i < width; ++i) {
        const T e = exponential(row[i] - top[i]);
        out[i] = e;
        total[i] += e;
      }
    }
    if (log)
      for (index_t i = 0; i < width; ++i) total[i] = logarithm(total[i]);
    for (index_t k = 0; k < length; ++k) {
      const T* __restrict row = x + k * inner + begin;
      T* __restrict out = y + k * inner + begin;
      if (log)
        for (index_t i = 0; i < width; ++i) out[i] = (row[i] - top[i]) - total[i];
      else
        for (index_t i = 0; i < width; ++i) out[i] /= total[i];
    }
  }
}

// y ∘ (gy − Σ gy∘y), or for the logarithm gy − e^y Σ gy, along rows.
template <class T>
void softmax_backward_rows_loop(const T* __restrict gy, const T* __restrict y, index_t rows,
                                index_t length, bool log, T* __restrict gx) {
  for (index_t r = 0; r < rows; ++r, gy += length, y += length, gx += length) {
    if (log) {
      const T total = sum(gy, length);
      for (index_t k = 0; k < length; ++k) gx[k] = gy[k] - exponential(y[k]) * total;
    } else {
      for (index_t k = 0; k < length; ++k) gx[k] = gy[k] * y[k];
      const T total = sum(gx, length);
      for (index_t k = 0; k < length; ++k) gx[k] -= y[k] * total;
    }
  }
}

template <class T>
void softmax_backward_columns_loop(const T* gy, const T* y, index_t length, index_t inner,
                                   index_t columns, bool log, T* gx) {
  for (index_t begin = 0; begin < columns; begin += kTile) {
    const index_t width = min_of(kTile, columns - begin);
    T total[kTile];
    for (index_t i = 0; i < width; ++i) total[i] = 0;
    for (index_t k = 0; k < length; ++k) {
      const T* __restrict g = gy + k * inner + begin;
      const T* __restrict p = y + k * inner + begin;
      if (log)
        for (index_t i = 0; i < width; ++i) total[i] += g[i];
      else
        for (index_t i = 0; i < width; ++i) total[i] += g[i] * p[i];
    }
    for (index_t k = 0; k < length; ++k) {
      const T* __restrict g = gy + k * inner + begin;
      const T* __restrict p = y + k * inner + begin;
      T* __restrict out = gx + k * inner + begin;
      if (log)
        for (index_t i = 0; i < width; ++i) out[i] = g[i] - exponential(p[i]) * total[i];
      else
        for (index_t i = 0; i < width; ++i) out[i] = p[i] * (g[i] - total[i]);
    }
  }
}

#define CNNCORE_INSTANTIATE(T)                                                                     \
  template void softmax_backward_rows_loop(const T*, const T*, index_t, index_t, bool, T*);        \
  template void softmax_backward_columns_loop(const T*, const T*, index_t, index_t, index_t, bool, \
                                              T*);                                                 \
  template void softmax_rows_loop(const T*, index_t, index_t, bool, T*);                           \
  template void softmax_columns_loop(const T*, index_t, index_t, index_t, bool, T*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
