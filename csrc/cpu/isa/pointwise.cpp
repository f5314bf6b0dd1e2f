// Loops over the activations, compiled once per instruction set. See cpu/pointwise.cpp.
#include "cnncore/activation.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

template <class F, int order, class T>
void loop(const T* __restrict x, const T* __restrict scale, T* __restrict y, index_t n, T p, T q) {
  if (scale == nullptr) {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<order>(x[i], p, q);
  } else {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<order>(x[i], p, q) * scale[i];
  }
}

template <class T>
using Loop = void (*)(const T*, const T*, T*, index_t, T, T);

}  // namespace

template <class T>
void pointwise(int kind, int order, const T* x, const T* scale, T* y, index_t n, T p, T q) {
  static const Loop<T> loops[static_cast<int>(Activation::count)][3] = {
#define CNNCORE_LOOPS(name, type, parameters) {loop<type, 0, T>, loop<type, 1, T>, loop<type, 2, T>},
      CNNCORE_ACTIVATIONS(CNNCORE_LOOPS)
#undef CNNCORE_LOOPS
  };
  loops[kind][order](x, scale, y, n, p, q);
}

template void pointwise(int, int, const float*, const float*, float*, index_t, float, float);
template void pointwise(int, int, const double*, const double*, double*, index_t, double, double);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
