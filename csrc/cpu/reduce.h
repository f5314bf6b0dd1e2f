// Sums and maxima over axes. Meaning: contract.py.
#pragma once

#include <vector>

#include "cnncore/view.h"

namespace cnncore {

// `reduced[axis]` says which axes of x disappear; y has the others.
template <class T>
void reduce_sum(ArrayView<const T> x, const std::vector<bool>& reduced, ArrayView<T> y);

// x is read as (outer, length, inner); values and indices are (outer, inner).
template <class T>
void reduce_max(const T* x, index_t outer, index_t length, index_t inner, T* values,
                index_t* indices);

}  // namespace cnncore
