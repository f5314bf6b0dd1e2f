// Loops over rows, the building blocks of every normalisation. See cpu/rows.cpp, cpu/normalize.cpp.
#include "cnncore/moments.h"
#include "cpu/isa/wide.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Mean and sum of squared deviations of one block that fits into L1, by two passes. The second pass
// also sums the deviations, which corrects the rounding of the first mean.
template <class T>
CNNCORE_HD void block_moments(const T* x, index_t n, double& mean, double& squares) {
  constexpr index_t width = Wide<T>::width;
  using Vector = typename Wide<T>::vector;
  const T guess = static_cast<T>(sum_run(x, n) / static_cast<double>(n));
  Vector sum0{}, sum1{}, square0{}, square1{};
  index_t i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    const Vector d0 = wide_at(x + i) - guess, d1 = wide_at(x + i + width) - guess;
    sum0 += d0;
    sum1 += d1;
    square0 += d0 * d0;
    square1 += d1 * d1;
  }
  if (i + width <= n) {
    const Vector d = wide_at(x + i) - guess;
    sum0 += d;
    square0 += d * d;
    i += width;
  }
  sum0 += sum1;
  square0 += square1;
  double sum = sum_lanes<T>(sum0);
  squares = sum_lanes<T>(square0);
  for (; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(guess);
    sum += d;
    squares += d * d;
  }
  mean = static_cast<double>(guess);
  if (sum - sum == 0) mean += sum / static_cast<double>(n);  // not when x holds NaN or infinities
  squares -= sum * sum / static_cast<double>(n);
  if (squares < 0) squares = 0;
}

// An activation that is straight between two limits and constant outside. A limit that is NaN is
// none, since no comparison with it holds.
template <class T>
CNNCORE_HD T limited(T v, T low, T high) {
  const T above = v <= low ? low : v;
  return above >= high ? high : above;
}

// Its derivative, told by its result y, times gy.
template <class T>
CNNCORE_HD T let_through(T gy, T y, T low, T high) {
  return y > low && !(y >= high) ? gy : T(0);
}

// g, a vector of gy; with `limits` of what the activation that gave y lets through.
template <bool limits, class T>
CNNCORE_HD void read_gradient(const T* gy, const T* y, T low, T high, typename Wide<T>::vector& g) {
  if (!limits) {
    g = wide_at(gy);
    return;
  }
  T passed[Wide<T>::width];
  for (index_t lane = 0; lane < Wide<T>::width; ++lane)
    passed[lane] = let_through(gy[lane], y[lane], low, high);
  g = wide_at(passed);
}

// The sums of one row; `limits` says whether y and the limits mean anything.
template <bool limits, class T>
CNNCORE_HD void products_of_row(const T* gy, const T* x, T mean, const T* y, T low, T high,
                                index_t length, double& total, double& total_product) {
  constexpr index_t width = Wide<T>::width;
  using Vector = typename Wide<T>::vector;
  total = total_product = 0;
  for (index_t begin = 0; begin < length; begin += kSumBlock) {
    const index_t end = min_of(length, begin + kSumBlock);
    Vector sum0{}, sum1{}, product0{}, product1{};
    index_t i = begin;
    for (; i + 2 * width <= end; i += 2 * width) {
      const index_t k = i + width;
      Vector g0, g1;
      read_gradient<limits>(gy + i, y + i, low, high, g0);
      read_gradient<limits>(gy + k, y + k, low, high, g1);
      sum0 += g0;
      sum1 += g1;
      product0 += g0 * (wide_at(x + i) - mean);
      product1 += g1 * (wide_at(x + k) - mean);
    }
    if (i + width <= end) {
      Vector g;
      read_gradient<limits>(gy + i, y + i, low, high, g);
      sum0 += g;
      product0 += g * (wide_at(x + i) - mean);
      i += width;
    }
    sum0 += sum1;
    product0 += product1;
    total += sum_lanes<T>(sum0);
    total_product += sum_lanes<T>(product0);
    for (; i < end; ++i) {
      const T g = limits ? let_through(gy[i], y[i], low, high) : gy[i];
      total += static_cast<double>(g);
      total_product += static_cast<double>(g) * static_cast<double>(x[i] - mean);
    }
  }
}

}  // namespace

// Rows of `length` elements, `stride` apart.
template <class T>
void row_moments_loop(const T* x, index_t rows, index_t length, index_t stride, double* mean,
                      double* squares) {
  for (index_t r = 0; r < rows; ++r, x += stride) {
    double count = 0, total_mean = 0, total_squares = 0;
    for (index_t begin = 0; begin < length; begin += kSumBlock) {
      const index_t n = min_of(kSumBlock, length - begin);
      double block_mean, block_squares;
      block_moments(x + begin, n, block_mean, block_squares);
      merge_moments(count, total_mean, total_squares, static_cast<double>(n), block_mean,
                    block_squares);
    }
    mean[r] = total_mean;
    squares[r] = total_squares;
  }
}

// y, the activation's result, may be null: then there is none.
template <class T>
void row_products_loop(const T* gy, const T* x, const T* mean, const T* y, T low, T high,
                       index_t rows, index_t length, index_t stride, double* sums,
                       double* products) {
  for (index_t r = 0; r < rows; ++r, x += stride, gy += stride) {
    if (y == nullptr) {
      products_of_row<false>(gy, x, mean[r], y, low, high, length, sums[r], products[r]);
    } else {
      products_of_row<true>(gy, x, mean[r], y, low, high, length, sums[r], products[r]);
      y += stride;
    }
  }
}

// y = limited(a · x + b + residual); the residual may be null.
template <class T>
void row_limited_loop(const T* __restrict x, const T* a, const T* b, const T* __restrict residual,
                      T low, T high, index_t rows, index_t length, index_t stride,
                      T* __restrict y) {
  for (index_t r = 0; r < rows; ++r, x += stride, y += stride) {
    const T factor = a[r], offset = b[r];
    if (residual == nullptr) {
      for (index_t i = 0; i < length; ++i) y[i] = limited(factor * x[i] + offset, low, high);
    } else {
      for (index_t i = 0; i < length; ++i)
        y[i] = limited(factor * x[i] + offset + residual[i], low, high);
      residual += stride;
    }
  }
}

template <class T>
void row_linear2_loop(const T* __restrict x, const T* __restrict z, const T* a, const T* b,
                      const T* c, index_t rows, index_t length, index_t stride, T* __restrict y) {
  for (index_t r = 0; r < rows; ++r, x += stride, z += stride, y += stride) {
    const T fx = a[r], fz = b[r], offset = c[r];
    for (index_t i = 0; i < length; ++i) y[i] = fx * x[i] + fz * z[i] + offset;
  }
}

// gx = a · gy' + b · x + c, where gy' is what the activation that gave y lets through of gy.
template <class T>
void row_limited2_loop(const T* __restrict gy, const T* __restrict x, const T* a, const T* b,
                       const T* c, const T* __restrict y, T low, T high, index_t rows,
                       index_t length, index_t stride, T* __restrict gx) {
  for (index_t r = 0; r < rows; ++r, gy += stride, x += stride, y += stride, gx += stride) {
    const T fg = a[r], fx = b[r], offset = c[r];
    for (index_t i = 0; i < length; ++i)
      gx[i] = fg * let_through(gy[i], y[i], low, high) + fx * x[i] + offset;
  }
}

#define CNNCORE_INSTANTIATE(T)                                                                    \
  template void row_moments_loop(const T*, index_t, index_t, index_t, double*, double*);          \
  template void row_products_loop(const T*, const T*, const T*, const T*, T, T, index_t, index_t, \
                                  index_t, double*, double*);                                     \
  template void row_limited_loop(const T*, const T*, const T*, const T*, T, T, index_t, index_t,  \
                                 index_t, T*);                                                    \
  template void row_linear2_loop(const T*, const T*, const T*, const T*, const T*, index_t,       \
                                 index_t, index_t, T*);                                           \
  template void row_limited2_loop(const T*, const T*, const T*, const T*, const T*, const T*, T,  \
                                  T, index_t, index_t, index_t, T*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
