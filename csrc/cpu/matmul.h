// Matrix products of whole arrays, leading axes broadcast.
#pragma once

#include <vector>

#include "cnncore/macros.h"

namespace cnncore {

// An array of matrices (…, rows, columns) with strides in elements; 0 repeats an axis.
template <class T>
struct BatchedMatrix {
  const T* data;
  std::vector<index_t> shape, strides;
};

// Shape of a @ b, or ArgumentError.
template <class T>
std::vector<index_t> matmul_shape(const BatchedMatrix<T>& a, const BatchedMatrix<T>& b);

// c is C-contiguous, of matmul_shape(a, b).
template <class T>
void matmul(const BatchedMatrix<T>& a, const BatchedMatrix<T>& b, T* c);

}  // namespace cnncore
