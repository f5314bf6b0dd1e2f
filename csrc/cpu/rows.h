// Kernels over the rows of a matrix (R, I): moments and affine maps. Meaning: contract.py.
#pragma once

#include <limits>

#include "cnncore/threads.h"
#include "cnncore/view.h"

namespace cnncore {

// A row longer than this is worked on in pieces of it; a multiple of the blocks of the reductions.
constexpr index_t kRowPiece = 32768;

// Calls fn(first_row, rows, begin, end) in parallel: several whole rows, or a piece of one.
template <class Function>
void parallel_rows(index_t rows, index_t length, Function&& fn) {
  if (length <= kRowPiece) {
    parallel_for(rows, grain_for(length),
                 [&](index_t first, index_t last) { fn(first, last - first, index_t{0}, length); });
    return;
  }
  const index_t pieces = ceil_div(length, kRowPiece);
  parallel_for(rows * pieces, 1, [&](index_t task, index_t) {
    const index_t begin = task % pieces * kRowPiece;
    fn(task / pieces, index_t{1}, begin, min_of(length, begin + kRowPiece));
  });
}

// The activation that follows: y = min(max(v, low), high). A limit that is NaN is none: ReLU has no
// upper one, no activation has neither.
struct Limits {
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

template <class T>
void row_moments(ArrayView<const T> x, ArrayView<T> mean, ArrayView<T> squares);
template <class T>
void row_products(ArrayView<const T> gy, ArrayView<const T> x, ArrayView<const T> mean,
                  ArrayView<T> sums, ArrayView<T> products);
// `residual`, laid out like x, may be null.
template <class T>
void row_linear(ArrayView<const T> x, ArrayView<const T> a, ArrayView<const T> b, const T* residual,
                Limits limits, ArrayView<T> y);
template <class T>
void row_linear2(ArrayView<const T> x, ArrayView<const T> z, ArrayView<const T> a,
                 ArrayView<const T> b, ArrayView<const T> c, ArrayView<T> y);

}  // namespace cnncore
