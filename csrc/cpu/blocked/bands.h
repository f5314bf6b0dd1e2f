// Rows of results of many planes, handed to the threads.
#pragma once

#include "cnncore/threads.h"

namespace cnncore {

// Calls f(plane, first row, last row) for bands of rows of all planes; `row_work` is about the
// arithmetic of a row.
template <class Function>
void for_bands(index_t planes, index_t rows, index_t row_work, Function f) {
  const index_t band = max_of(1, min_of(rows, grain_for(row_work)));
  const index_t bands = ceil_div(rows, band);
  parallel_for(planes * bands, max_of(1, grain_for(row_work) / band),
               [&](index_t begin, index_t end) {
                 for (index_t task = begin; task < end; ++task) {
                   const index_t first = task % bands * band;
                   f(task / bands, first, min_of(rows, first + band));
                 }
               });
}

}  // namespace cnncore
