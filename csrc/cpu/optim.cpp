#include "cpu/optim.h"

#include <cmath>

#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void sgd_loop(T* param, const T* grad, T* velocity,
                                                              index_t n, T lr, T momentum, T fresh,
                                                              T decay, bool nesterov))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void adam_loop(T* param, const T* grad, T* m, T* v,
                                                               index_t n, T beta1, T beta2,
                                                               T fresh1, T fresh2, T gradient_decay,
                                                               T keep, T rate, T root_scale, T eps))

CNNCORE_KERNEL(sgd_update);
template <class T>
void sgd_update(ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> velocity,
                const SgdSettings& s) {
  const auto loop = CNNCORE_SELECT_ISA(sgd_loop<T>);
  parallel_for(param.size(), grain_for(1), [&](index_t begin, index_t end) {
    loop(param.data + begin, grad.data + begin,
         velocity.data == nullptr ? nullptr : velocity.data + begin, end - begin,
         static_cast<T>(s.lr), static_cast<T>(s.momentum), static_cast<T>(1 - s.dampening),
         static_cast<T>(s.weight_decay), s.nesterov);
  });
}

// p −= lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + eps), with the corrections taken out of the loop.
CNNCORE_KERNEL(adam_update);
template <class T>
void adam_update(ArrayView<T> param, ArrayView<const T> grad, ArrayView<T> m, ArrayView<T> v,
                 const AdamSettings& s) {
  const auto loop = CNNCORE_SELECT_ISA(adam_loop<T>);
  const double t = static_cast<double>(s.step);
  const double rate = s.lr / (1 - std::pow(s.beta1, t));
  const double root_scale = 1 / std::sqrt(1 - std::pow(s.beta2, t));
  const double gradient_decay = s.decoupled ? 0 : s.weight_decay;
  const double keep = s.decoupled ? 1 - s.lr * s.weight_decay : 1;
  parallel_for(param.size(), grain_for(2), [&](index_t begin, index_t end) {
    loop(param.data + begin, grad.data + begin, m.data + begin, v.data + begin, end - begin,
         static_cast<T>(s.beta1), static_cast<T>(s.beta2), static_cast<T>(1 - s.beta1),
         static_cast<T>(1 - s.beta2), static_cast<T>(gradient_decay), static_cast<T>(keep),
         static_cast<T>(rate), static_cast<T>(root_scale), static_cast<T>(s.eps));
  });
}

#define CNNCORE_INSTANTIATE(T)                                                                  \
  template void sgd_update(ArrayView<T>, ArrayView<const T>, ArrayView<T>, const SgdSettings&); \
  template void adam_update(ArrayView<T>, ArrayView<const T>, ArrayView<T>, ArrayView<T>,       \
                            const AdamSettings&);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
