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

CNNCORE_KERNEL(softmax);
template <class T>
void softmax(ArrayView<const T> x, bool log, ArrayView<T> y) {
  const index_t outer = x[0], length = x[1], inner = x[2];
  constexpr index_t cost = 4;  // an exponential against one unit of work
  if (inner == 1) {
    const auto loop = CNNCORE_SELECT_ISA(softmax_rows_loop<T>);
    parallel_for(outer, grain_for(cost * length), [&](index_t first, index_t last) {
      loop(x.data + first * length, last - first, length, log, y.data + first * length);
    });
    return;
  }
  const auto loop = CNNCORE_SELECT_ISA(softmax_columns_loop<T>);
  constexpr index_t tile = 1024;
  const index_t tiles = ceil_div(inner, tile);
  parallel_for(outer * tiles, grain_for(cost * length * min_of(tile, inner)),
               [&](index_t first, index_t last) {
                 for (index_t task = first; task < last; ++task) {
                   const index_t column = task % tiles * tile;
                   const index_t offset = task / tiles * length * inner + column;
                   loop(x.data + offset, length, inner, min_of(tile, inner - column), log,
                        y.data + offset);
                 }
               });
}

template void softmax(ArrayView<const float>, bool, ArrayView<float>);
template void softmax(ArrayView<const double>, bool, ArrayView<double>);

}  // namespace cnncore
