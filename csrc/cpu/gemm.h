// Matrix products, and the packing of their right factors.
#pragma once

#include "cnncore/check.h"
#include "cnncore/macros.h"
#include "cpu/tile.h"

namespace cnncore {

// A matrix inside someone else's memory; a transposed one just has its strides exchanged.
template <class T>
struct MatrixView {
  const T* data;
  index_t rows, columns, row_stride, column_stride;

  MatrixView at(index_t row, index_t column) const {
    return {data + row * row_stride + column * column_stride, rows - row, columns - column,
            row_stride, column_stride};
  }
};

template <class T>
MatrixView<T> row_major(const T* data, index_t rows, index_t columns) {
  return {data, rows, columns, columns, 1};
}

template <class T>
MatrixView<T> transposed(const MatrixView<T>& m) {
  return {m.data, m.columns, m.rows, m.column_stride, m.row_stride};
}

// Elements that pack_panels writes for a right factor of `depth` x `columns`.
template <class T>
index_t packed_size(const TileKernels<T>& kernels, index_t depth, index_t columns) {
  return checked_product(depth, kernels.padded(columns));
}

// Panel p begins at p * panel_columns() * depth and holds depth rows of lanes(p) elements.
template <class T>
void pack_panels(const TileKernels<T>& kernels, const MatrixView<T>& b, T* panels);

// c = a b, or c += a b; c is row-major with rows `c_stride` apart.
template <class T>
void gemm(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride, bool accumulate);

}  // namespace cnncore
