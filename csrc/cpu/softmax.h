// Softmax and its logarithm along the middle axis of (O, K, I). Meaning: contract.py.
#pragma once

#include "cnncore/view.h"

namespace cnncore {

template <class T>
void softmax(ArrayView<const T> x, bool log, ArrayView<T> y);

// y is the result of softmax(x, log).
template <class T>
void softmax_backward(ArrayView<const T> gy, ArrayView<const T> y, bool log, ArrayView<T> gx);

}  // namespace cnncore
