// Matrix products, and the packing of their right factors.
#pragma once

#include <vector>

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

// How a product of m rows and some panels is cut into tasks; depends on shapes only.
struct Blocking {
  index_t row_blocks;  // the rows are split evenly among them
  index_t panels;      // of one task
};
// No task has more than `most_columns` columns (or one panel).
template <class T>
Blocking choose_blocking(const TileKernels<T>& kernels, index_t m, index_t panels,
                         index_t most_columns);

// The left factor as tasks of at most `rows` rows and `depth` columns read it: where it lies, or,
// where that would be slow, in a copy of what is needed next.
template <class T>
class LeftFactor {
 public:
  LeftFactor(const TileKernels<T>& kernels, const MatrixView<T>& a, index_t rows, index_t depth);

  // Elements of the copy; 0 where there is none.
  index_t local_size() const { return local_size_; }
  // Its block at (row, k), to be read through the tables of TileArgs; `local` may be overwritten.
  const T* block(index_t row, index_t rows, index_t k, index_t depth, T* local) const;
  const index_t* row_table() const { return tables_.data(); }
  const index_t* depth_table() const { return tables_.data() + rows_; }

 private:
  MatrixView<T> a_;
  index_t rows_, row_pitch_, depth_pitch_, local_size_;
  std::vector<index_t> tables_;
};

// c = a b, or c += a b; c is row-major with rows `c_stride` apart.
template <class T>
void gemm(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride, bool accumulate);

}  // namespace cnncore
