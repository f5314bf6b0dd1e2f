// Gather along the middle axis and its transpose. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"

namespace cnncore {

// x (O, A, I), index (O or 1, J, I or 1), y (O, J, I).
template <class T>
void gather(ArrayView<const T> x, ArrayView<const std::int64_t> index, ArrayView<T> y);

// src (O, J, I), index as above, y (O, size, I).
template <class T>
void scatter_add(ArrayView<const T> src, ArrayView<const std::int64_t> index, ArrayView<T> y);

}  // namespace cnncore
