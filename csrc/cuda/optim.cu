// One pass over the parameter, its gradient and what is remembered of it.
#include <cmath>

#include "cuda/map.h"
#include "cuda/optim.h"

namespace cnncore::cuda {
namespace {

CNNCORE_HD float root(float x) {
  return ::sqrtf(x);
}
CNNCORE_HD double root(double x) {
  return ::sqrt(x);
}

template <class T>
struct Descend {  // values: param, grad
  T lr, decay;

  CNNCORE_HD void operator()(T (&values)[2]) const {
    values[0] -= lr * (values[1] + decay * values[0]);
  }
};

template <class T>
struct DescendWithMomentum {  // values: param, velocity, grad
  T lr, momentum, fresh, decay;
  bool nesterov;

  CNNCORE_HD void operator()(T (&values)[3]) const {
    const T g = values[2] + decay * values[0];
    const T v = momentum * values[1] + fresh * g;
    values[1] = v;
    values[0] -= lr * (nesterov ? g + momentum * v : v);
  }
};

template <class T>
struct AdamStep {  // values: param, m, v, grad
  T beta1, beta2, fresh1, fresh2, gradient_decay, keep, rate, root_scale, eps;

  CNNCORE_HD void operator()(T (&values)[4]) const {
    const T g = values[3] + gradient_decay * values[0];
    const T first = beta1 * values[1] + fresh1 * g;
    const T second = beta2 * values[2] + fresh2 * (g * g);
    values[1] = first;
    values[2] = second;
    values[0] = keep * values[0] - rate * first / (root(second) * root_scale + eps);
  }
};

}  // namespace

template <class T>
void sgd_update(const Queue& queue, ArrayView<T> param, ArrayView<const T> grad,
                ArrayView<T> velocity, const SgdSettings& s) {
  T* gradient = const_cast<T*>(grad.data);  // read only
  const T lr = static_cast<T>(s.lr), decay = static_cast<T>(s.weight_decay);
  if (velocity.data == nullptr)
    map_elements<1, 0>(queue, "sgd_update", param.size(), Descend<T>{lr, decay},
                       {param.data, gradient});
  else
    map_elements<2, 0>(queue, "sgd_update", param.size(),
                       DescendWithMomentum<T>{lr, static_cast<T>(s.momentum),
                                              static_cast<T>(1 - s.dampening), decay, s.nesterov},
                       {param.data, velocity.data, gradient});
}

// p −= lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + eps), with the corrections taken out of the loop.
template <class T>
void adam_update(const Queue& queue, ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> m,
                 ArrayView<T> v, const AdamSettings& s) {
  const double t = static_cast<double>(s.step);
  const AdamStep<T> step{static_cast<T>(s.beta1),
                         static_cast<T>(s.beta2),
                         static_cast<T>(1 - s.beta1),
                         static_cast<T>(1 - s.beta2),
                         static_cast<T>(s.decoupled ? 0 : s.weight_decay),
                         static_cast<T>(s.decoupled ? 1 - s.lr * s.weight_decay : 1),
                         static_cast<T>(s.lr / (1 - std::pow(s.beta1, t))),
                         static_cast<T>(1 / std::sqrt(1 - std::pow(s.beta2, t))),
                         static_cast<T>(s.eps)};
  map_elements<3, 0>(queue, "adam_update", param.size(), step,
                     {param.data, m.data, v.data, const_cast<T*>(grad.data)});
}

#define CNNCORE_INSTANTIATE(T)                                                            \
  template void sgd_update(const Queue&, ArrayView<T>, ArrayView<const T>, ArrayView<T>,  \
                           const SgdSettings&);                                           \
  template void adam_update(const Queue&, ArrayView<T>, ArrayView<const T>, ArrayView<T>, \
                            ArrayView<T>, const AdamSettings&);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
