// Loops over the activations and over pairs of arrays. See cpu/pointwise.cpp.
#include "cnncore/activation.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

template <class F, int order, class T>
void activation_loop(const T* __restrict x, const T* __restrict scale, T* __restrict y, index_t n,
                     T p, T q) {
  if (scale == nullptr) {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<order>(x[i], p, q);
  } else {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<order>(x[i], p, q) * scale[i];
  }
}

template <class T>
using ActivationLoop = void (*)(const T*, const T*, T*, index_t, T, T);

struct Same {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    return x;
  }
};

template <class F, class T>
void finish_with(T p, T q, const T* __restrict residual, T* __restrict y, index_t n) {
  if (residual == nullptr) {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<0>(y[i], p, q);
  } else {
    for (index_t i = 0; i < n; ++i) y[i] = F::template at<0>(y[i] + residual[i], p, q);
  }
}

struct Add {
  template <class T>
  CNNCORE_HD static T of(T a, T b) {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  CNNCORE_HD static T of(T a, T b) {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  CNNCORE_HD static T of(T a, T b) {
    return a * b;
  }
};
struct Divide {
  template <class T>
  CNNCORE_HD static T of(T a, T b) {
    return a / b;
  }
};
struct Maximum {  // NaN wins, the first one over the second
  template <class T>
  CNNCORE_HD static T of(T a, T b) {
    const T larger = a < b ? b : a;
    return b != b && a == a ? b : larger;
  }
};

template <class F, class T>
void pair_loop(const T* __restrict a, bool a_single, const T* __restrict b, bool b_single,
               T* __restrict y, index_t n) {
  if (a_single) {
    const T value = *a;
    for (index_t i = 0; i < n; ++i) y[i] = F::of(value, b[i]);
  } else if (b_single) {
    const T value = *b;
    for (index_t i = 0; i < n; ++i) y[i] = F::of(a[i], value);
  } else {
    for (index_t i = 0; i < n; ++i) y[i] = F::of(a[i], b[i]);
  }
}

}  // namespace

template <class T>
void pointwise_loop(int kind, int order, const T* x, const T* scale, T* y, index_t n, T p, T q) {
  static constexpr ActivationLoop<T> loops[static_cast<int>(Activation::count)][3] = {
#define CNNCORE_LOOPS(name, type, parameters) \
  {activation_loop<type, 0, T>, activation_loop<type, 1, T>, activation_loop<type, 2, T>},
      CNNCORE_ACTIVATIONS(CNNCORE_LOOPS)
#undef CNNCORE_LOOPS
  };
  loops[kind][order](x, scale, y, n, p, q);
}

// See cpu/finish.h; activation -1 is none.
template <class T>
void finish_loop(int activation, T p, T q, const T* residual, T* y, index_t n) {
  using Loop = void (*)(T, T, const T*, T*, index_t);
  static constexpr Loop loops[] = {finish_with<Same, T>,
#define CNNCORE_FINISH(name, type, parameters) finish_with<type, T>,
                                   CNNCORE_ACTIVATIONS(CNNCORE_FINISH)
#undef CNNCORE_FINISH
  };
  loops[activation + 1](p, q, residual, y, n);
}

template <class T>
void binary_loop(int kind, const T* a, bool a_single, const T* b, bool b_single, T* y, index_t n) {
  using Loop = void (*)(const T*, bool, const T*, bool, T*, index_t);
  static constexpr Loop loops[] = {pair_loop<Add, T>, pair_loop<Subtract, T>,
                                   pair_loop<Multiply, T>, pair_loop<Divide, T>,
                                   pair_loop<Maximum, T>};
  loops[kind](a, a_single, b, b_single, y, n);
}

#define CNNCORE_INSTANTIATE(T)                                                   \
  template void pointwise_loop(int, int, const T*, const T*, T*, index_t, T, T); \
  template void finish_loop(int, T, T, const T*, T*, index_t);                   \
  template void binary_loop(int, const T*, bool, const T*, bool, T*, index_t);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
