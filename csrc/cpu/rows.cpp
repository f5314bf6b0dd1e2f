#include "cpu/rows.h"

#include "cnncore/memory_pool.h"
#include "cnncore/moments.h"
#include "cnncore/registry.h"
#include "cpu/row_loops.h"

namespace cnncore {

namespace {

// Two numbers for every piece of every row, in the order of the pieces.
struct PiecePairs {
  PiecePairs(index_t rows, index_t length)
      : pieces(max_of(1, ceil_div(length, kRowPiece))),
        first(rows * pieces),
        second(rows * pieces) {}

  index_t slot(index_t row, index_t begin) const { return row * pieces + begin / kRowPiece; }

  index_t pieces;
  Scratch<double> first, second;
};

}  // namespace

CNNCORE_KERNEL(row_moments);
template <class T>
void row_moments(ArrayView<const T> x, ArrayView<T> mean, ArrayView<T> squares) {
  const index_t rows = x[0], length = x[1];
  const auto loop = CNNCORE_SELECT_ISA(row_moments_loop<T>);
  PiecePairs parts(rows, length);
  parallel_rows(rows, length, [&](index_t row, index_t count, index_t begin, index_t end) {
    const index_t slot = parts.slot(row, begin);
    loop(x.data + row * length + begin, count, end - begin, length, &parts.first[slot],
         &parts.second[slot]);
  });
  for (index_t row = 0; row < rows; ++row) {
    double seen = 0, row_mean = 0, row_squares = 0;
    for (index_t begin = 0; begin < length; begin += kRowPiece) {
      const index_t slot = parts.slot(row, begin);
      merge_moments(seen, row_mean, row_squares,
                    static_cast<double>(min_of(kRowPiece, length - begin)), parts.first[slot],
                    parts.second[slot]);
    }
    mean.data[row] = static_cast<T>(row_mean);
    squares.data[row] = static_cast<T>(row_squares);
  }
}

CNNCORE_KERNEL(row_products);
template <class T>
void row_products(ArrayView<const T> gy, ArrayView<const T> x, ArrayView<const T> mean,
                  ArrayView<T> sums, ArrayView<T> products) {
  const index_t rows = x[0], length = x[1];
  const auto loop = CNNCORE_SELECT_ISA(row_products_loop<T>);
  PiecePairs parts(rows, length);
  parallel_rows(rows, length, [&](index_t row, index_t count, index_t begin, index_t end) {
    const index_t slot = parts.slot(row, begin), offset = row * length + begin;
    loop(gy.data + offset, x.data + offset, mean.data + row, nullptr, T(0), T(0), count,
         end - begin, length, &parts.first[slot], &parts.second[slot]);
  });
  for (index_t row = 0; row < rows; ++row) {
    double sum = 0, product = 0;
    for (index_t begin = 0; begin < length; begin += kRowPiece) {
      sum += parts.first[parts.slot(row, begin)];
      product += parts.second[parts.slot(row, begin)];
    }
    sums.data[row] = static_cast<T>(sum);
    products.data[row] = static_cast<T>(product);
  }
}

CNNCORE_KERNEL(row_linear);
template <class T>
void row_linear(ArrayView<const T> x, ArrayView<const T> a, ArrayView<const T> b, const T* residual,
                Limits limits, ArrayView<T> y) {
  const index_t length = x[1];
  const T low = static_cast<T>(limits.low), high = static_cast<T>(limits.high);
  const auto loop = CNNCORE_SELECT_ISA(row_limited_loop<T>);
  parallel_rows(x[0], length, [&](index_t row, index_t count, index_t begin, index_t end) {
    const index_t offset = row * length + begin;
    loop(x.data + offset, a.data + row, b.data + row,
         residual == nullptr ? nullptr : residual + offset, low, high, count, end - begin, length,
         y.data + offset);
  });
}

CNNCORE_KERNEL(row_linear2);
template <class T>
void row_linear2(ArrayView<const T> x, ArrayView<const T> z, ArrayView<const T> a,
                 ArrayView<const T> b, ArrayView<const T> c, ArrayView<T> y) {
  const index_t length = x[1];
  const auto loop = CNNCORE_SELECT_ISA(row_linear2_loop<T>);
  parallel_rows(x[0], length, [&](index_t row, index_t count, index_t begin, index_t end) {
    const index_t offset = row * length + begin;
    loop(x.data + offset, z.data + offset, a.data + row, b.data + row, c.data + row, count,
         end - begin, length, y.data + offset);
  });
}

#define CNNCORE_INSTANTIATE(T)                                                                   \
  template void row_moments(ArrayView<const T>, ArrayView<T>, ArrayView<T>);                     \
  template void row_products(ArrayView<const T>, ArrayView<const T>, ArrayView<const T>,         \
                             ArrayView<T>, ArrayView<T>);                                        \
  template void row_linear(ArrayView<const T>, ArrayView<const T>, ArrayView<const T>, const T*, \
                           Limits, ArrayView<T>);                                                \
  template void row_linear2(ArrayView<const T>, ArrayView<const T>, ArrayView<const T>,          \
                            ArrayView<const T>, ArrayView<const T>, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
