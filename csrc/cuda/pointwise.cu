// One thread, one pack of 16 bytes: the arithmetic is that of cnncore/activation.h, on every
// device.
#include "cuda/map.h"
#include "cuda/pointwise.h"

namespace cnncore::cuda {
namespace {

// The order is the same for all threads, so choosing by it costs nothing and saves kernels.
template <class F, class T>
CNNCORE_HD T derivative(int order, T x, T p, T q) {
  if (order == 0) return F::template at<0>(x, p, q);
  if (order == 1) return F::template at<1>(x, p, q);
  return F::template at<2>(x, p, q);
}

template <class F, class T>
struct Activated {  // values: y, x
  T p, q;
  int order;

  CNNCORE_HD void operator()(T (&values)[2]) const {
    values[0] = derivative<F>(order, values[1], p, q);
  }
};

template <class F, class T>
struct ActivatedScaled {  // values: y, x, scale
  T p, q;
  int order;

  CNNCORE_HD void operator()(T (&values)[3]) const {
    values[0] = derivative<F>(order, values[1], p, q) * values[2];
  }
};

template <class F, class T>
void run(const Queue& queue, index_t count, T p, T q, int order, T* x, T* scale, T* y) {
  if (scale == nullptr)
    map_elements<1, 1>(queue, "pointwise", count, Activated<F, T>{p, q, order}, {y, x});
  else
    map_elements<1, 1>(queue, "pointwise", count, ActivatedScaled<F, T>{p, q, order},
                       {y, x, scale});
}

}  // namespace

template <class T>
void pointwise(const Queue& queue, ArrayView<const T> x, Activation kind, const double (&params)[2],
               int order, ArrayView<const T> scale, ArrayView<T> y) {
  using Run = void (*)(const Queue&, index_t, T, T, int, T*, T*, T*);
  static constexpr Run runs[static_cast<int>(Activation::count)] = {
#define CNNCORE_RUN(name, type, parameters) run<type, T>,
      CNNCORE_ACTIVATIONS(CNNCORE_RUN)
#undef CNNCORE_RUN
  };
  runs[static_cast<int>(kind)](queue, x.size(), static_cast<T>(params[0]),
                               static_cast<T>(params[1]), order, const_cast<T*>(x.data),
                               const_cast<T*>(scale.data), y.data);
}

#define CNNCORE_INSTANTIATE(T)                                                                    \
  template void pointwise(const Queue&, ArrayView<const T>, Activation, const double (&)[2], int, \
                          ArrayView<const T>, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
