// A C-contiguous array as kernels see it: a pointer and a shape.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

constexpr int kMaxRank = 8;

template <class T>
struct ArrayView {
  T* data = nullptr;
  int rank = 0;
  index_t shape[kMaxRank] = {};

  CNNCORE_HD index_t size() const {
    index_t product = 1;
    for (int axis = 0; axis < rank; ++axis) product *= shape[axis];
    return product;
  }
  CNNCORE_HD index_t operator[](int axis) const { return shape[axis]; }
};

}  // namespace cnncore
