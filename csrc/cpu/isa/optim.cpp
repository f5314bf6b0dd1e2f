// Loops of the optimiser updates. See cpu/optim.cpp.
#include <math.h>

#include "cnncore/macros.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

CNNCORE_HD float root(float x) {
  return __builtin_sqrtf(x);
}
CNNCORE_HD double root(double x) {
  return __builtin_sqrt(x);
}

}  // namespace

template <class T>
void sgd_loop(T* __restrict param, const T* __restrict grad, T* __restrict velocity, index_t n,
              T lr, T momentum, T fresh, T decay, bool nesterov) {
  if (velocity == nullptr) {
    for (index_t i = 0; i < n; ++i) param[i] -= lr * (grad[i] + decay * param[i]);
    return;
  }
  const T direct = nesterov ? T(1) : T(0), moving = nesterov ? momentum : T(1);
  for (index_t i = 0; i < n; ++i) {
    const T g = grad[i] + decay * param[i];
    const T v = momentum * velocity[i] + fresh * g;
    velocity[i] = v;
    param[i] -= lr * (direct * g + moving * v);
  }
}

template <class T>
void adam_loop(T* __restrict param, const T* __restrict grad, T* __restrict m, T* __restrict v,
               index_t n, T beta1, T beta2, T fresh1, T fresh2, T gradient_decay, T keep, T rate,
               T root_scale, T eps) {
  for (index_t i = 0; i < n; ++i) {
    const T g = grad[i] + gradient_decay * param[i];
    const T first = beta1 * m[i] + fresh1 * g;
    const T second = beta2 * v[i] + fresh2 * (g * g);
    m[i] = first;
    v[i] = second;
    param[i] = keep * param[i] - rate * first / (root(second) * root_scale + eps);
  }
}

#define CNNCORE_INSTANTIATE(T)                                         \
  template void sgd_loop(T*, const T*, T*, index_t, T, T, T, T, bool); \
  template void adam_loop(T*, const T*, T*, T*, index_t, T, T, T, T, T, T, T, T, T);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
