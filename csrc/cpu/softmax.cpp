#include "cpu/softmax.h"

#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void softmax_columns_loop(const T* x, index_t length, index_t inner,
                                                       index_t columns, bool log, T* y))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void softmax_rows_loop(const T* x, index_t rows,
                                                                       index_t length, bool log,
                                                                       T* y))

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void softmax_backward_columns_loop(
    const T* gy, const T* y, index_t length, index_t inner, index_t columns, bool log, T* gx))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void softmax_backward_rows_loop(const T* gy, const T* y, index_t rows,
                                                             index_t length, bool log, T* gx))

namespace {

constexpr index_t kCost = 4;        // an exponential against one unit of work
constexpr index_t kColumns = 1024;  // of one task

// Calls rows(first, count) where the classes are contiguous, else columns(offset, count).
template <class Rows, class Columns>
void each_part(index_t outer, index_t length, index_t inner, Rows&& rows, Columns&& columns) {
  if (inner == 1) {
    parallel_for(outer, grain_for(kCost * length),
                 [&](index_t first, index_t last) { rows(first, last - first); });
    return;
  }
  const index_t tiles = ceil_div(inner, kColumns);
  parallel_for(outer * tiles, grain_for(kCost * length * min_of(kColumns, inner)),
               [&](index_t first, index_t last) {
                 for (index_t task = first; task < last; ++task) {
                   const index_t column = task % tiles * kColumns;
                   columns(task / tiles * length * inner + column,
                           min_of(kColumns, inner - column));
                 }
               });
}

}  // namespace

CNNCORE_KERNEL(softmax);
template <class T>
void softmax(ArrayView<const T> x, bool log, ArrayView<T> y) {
  const index_t length = x[1], inner = x[2];
  const auto along = CNNCORE_SELECT_ISA(softmax_rows_loop<T>);
  const auto across = CNNCORE_SELECT_ISA(softmax_columns_loop<T>);
  each_part(
      x[0], length, inner,
      [&](index_t first, index_t count) {
        along(x.data + first * length, count, length, log, y.data + first * length);
      },
      [&](index_t offset, index_t count) {
        across(x.data + offset, length, inner, count, log, y.data + offset);
      });
}

CNNCORE_KERNEL(softmax_backward);
template <class T>
void softmax_backward(ArrayView<const T> gy, ArrayView<const T> y, bool log, ArrayView<T> gx) {
  const index_t length = y[1], inner = y[2];
  const auto along = CNNCORE_SELECT_ISA(softmax_backward_rows_loop<T>);
  const auto across = CNNCORE_SELECT_ISA(softmax_backward_columns_loop<T>);
  each_part(
      y[0], length, inner,
      [&](index_t first, index_t count) {
        const index_t at = first * length;
        along(gy.data + at, y.data + at, count, length, log, gx.data + at);
      },
      [&](index_t offset, index_t count) {
        across(gy.data + offset, y.data + offset, length, inner, count, log, gx.data + offset);
      });
}

template void softmax(ArrayView<const float>, bool, ArrayView<float>);
template void softmax(ArrayView<const double>, bool, ArrayView<double>);
template void softmax_backward(ArrayView<const float>, ArrayView<const float>, bool,
                               ArrayView<float>);
template void softmax_backward(ArrayView<const double>, ArrayView<const double>, bool,
                               ArrayView<double>);

}  // namespace cnncore
