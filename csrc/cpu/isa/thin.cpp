// Products of a few rows: every element of the large factor is used too seldom to pay for packing,
// so it is read where it lies, once. See cpu/gemm.cpp.
//
//   thin_rows   c[r, :] (+)= Σ_k a[r, k] · b[k, :]    b in rows; four of them at a time, in L1
//   thin_dots   c[r, j] (+)= Σ_k a[r, k] · b[j, k]    b in columns; four of them at a time
//
// The order of addition depends on the depth alone, not on which columns a task has.
#include "cpu/thin.h"

#include "cpu/isa/wide.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Dot products of R rows of a with C columns of b.
template <int R, int C, class T>
CNNCORE_HD void dots(const ThinProduct<T>& p, index_t row, index_t column) {
  using Vector = typename Wide<T>::vector;
  constexpr index_t width = Wide<T>::width;
  const T* const a = p.a + row * p.a_stride;
  const T* const b = p.b + column * p.b_stride;
  Vector acc[R][C] = {};
  index_t k = 0;
  for (; k + width <= p.depth; k += width) {
    Vector right[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) right[c] = wide_at(b + c * p.b_stride + k);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vector left = wide_at(a + r * p.a_stride + k);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] += left * right[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      double sum = sum_lanes<T>(acc[r][c]);
      for (index_t i = k; i < p.depth; ++i)
        sum +=
            static_cast<double>(a[r * p.a_stride + i]) * static_cast<double>(b[c * p.b_stride + i]);
      T& out = p.c[(row + r) * p.c_row + (column + c) * p.c_column];
      out = p.accumulate ? out + static_cast<T>(sum) : static_cast<T>(sum);
    }
}

template <int C, class T>
CNNCORE_HD void all_rows(const ThinProduct<T>& p, index_t column) {
  index_t row = 0;
  for (; row + 4 <= p.rows; row += 4) dots<4, C>(p, row, column);
  if (row + 2 <= p.rows) {
    dots<2, C>(p, row, column);
    row += 2;
  }
  if (row < p.rows) dots<1, C>(p, row, column);
}

}  // namespace

template <class T>
void thin_dots_loop(const ThinProduct<T>& p, index_t first, index_t last) {
  for (; first + 4 <= last; first += 4) all_rows<4>(p, first);
  for (; first < last; ++first) all_rows<1>(p, first);
}

template <class T>
void thin_rows_loop(const ThinProduct<T>& p, index_t first, index_t last) {
  const index_t n = last - first;
  if (!p.accumulate)
    for (index_t r = 0; r < p.rows; ++r)
      for (index_t j = 0; j < n; ++j) p.c[r * p.c_row + first + j] = 0;
  index_t k = 0;
  for (; k + 4 <= p.depth; k += 4) {
    const T* const b = p.b + k * p.b_stride + first;
    const T* __restrict b0 = b, * __restrict b1 = b + p.b_stride;
    const T* __restrict b2 = b + 2 * p.b_stride, * __restrict b3 = b + 3 * p.b_stride;
    for (index_t r = 0; r < p.rows; ++r) {
      const T* const a = p.a + r * p.a_stride + k;
      const T a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
      T* __restrict c = p.c + r * p.c_row + first;
      for (index_t j = 0; j < n; ++j) c[j] += (a0 * b0[j] + a1 * b1[j]) + (a2 * b2[j] + a3 * b3[j]);
    }
  }
  for (; k < p.depth; ++k) {
    const T* __restrict b = p.b + k * p.b_stride + first;
    for (index_t r = 0; r < p.rows; ++r) {
      const T factor = p.a[r * p.a_stride + k];
      T* __restrict c = p.c + r * p.c_row + first;
      for (index_t j = 0; j < n; ++j) c[j] += factor * b[j];
    }
  }
}

#define CNNCORE_INSTANTIATE(T)                                           \
  template void thin_dots_loop(const ThinProduct<T>&, index_t, index_t); \
  template void thin_rows_loop(const ThinProduct<T>&, index_t, index_t);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
