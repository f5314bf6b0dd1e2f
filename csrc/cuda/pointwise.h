// Activations, their derivatives, and pairs of arrays on a device. Meaning: contract.py.
#pragma once

#include "cnncore/activation.h"
#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

// scale.data is null where there is none.
template <class T>
void pointwise(const Queue& queue, ArrayView<const T> x, Activation kind, const double (&params)[2],
               int order, ArrayView<const T> scale, ArrayView<T> y);

}  // namespace cnncore::cuda
