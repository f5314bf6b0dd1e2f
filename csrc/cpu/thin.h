// What the loops over products of a few rows are given; see isa/thin.cpp.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

// Rows of a, and rows or columns of b, are contiguous and a_stride and b_stride apart.
template <class T>
struct ThinProduct {
  const T *a, *b;
  T* c;
  index_t rows, depth, a_stride, b_stride, c_row, c_column;
  bool accumulate;
};

constexpr index_t kThinRows = 8;

}  // namespace cnncore
