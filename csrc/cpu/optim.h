// Optimiser updates, in place. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"

namespace cnncore {

struct SgdSettings {
  double lr, momentum, dampening, weight_decay;
  bool nesterov;
};

struct AdamSettings {
  index_t step;
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
};

template <class T>
void sgd_update(ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> velocity,
                const SgdSettings& settings);  // velocity.data is null without momentum
template <class T>
void adam_update(ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> m, ArrayView<T> v,
                 const AdamSettings& settings);

}  // namespace cnncore
