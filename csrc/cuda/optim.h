// Optimiser updates on a device, in place. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"
#include "cpu/optim.h"  // the settings only
#include "cuda/queue.h"

namespace cnncore::cuda {

template <class T>
void sgd_update(const Queue& queue, ArrayView<T> param, ArrayView<const T> grad,
                ArrayView<T> velocity, const SgdSettings& settings);  // null without momentum
template <class T>
void adam_update(const Queue& queue, ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> m,
                 ArrayView<T> v, const AdamSettings& settings);

}  // namespace cnncore::cuda
