// Reductions along the middle axis of (O, K, I) on a device. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

// y (O, P, I): y[o, p, i] is the sum of x[o, k, i] over p·piece <= k < (p + 1)·piece.
template <class X, class Y>
void sum_pieces(const Queue& queue, ArrayView<const X> x, index_t piece, ArrayView<Y> y);
// values and indices (O, I).
template <class T>
void max_middle(const Queue& queue, ArrayView<const T> x, ArrayView<T> values,
                ArrayView<std::int64_t> indices);
template <class T>
void softmax(const Queue& queue, ArrayView<const T> x, bool log, ArrayView<T> y);
// gx from the result y of softmax and the gradient gy towards it.
template <class T>
void softmax_backward(const Queue& queue, ArrayView<const T> gy, ArrayView<const T> y, bool log,
                      ArrayView<T> gx);

}  // namespace cnncore::cuda
