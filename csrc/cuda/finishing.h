// What is done to a result on its way out: f(value + bias + residual).
#pragma once

#include "cnncore/activation.h"
#include "cuda/narrow.h"

#if defined(__CUDACC__)
  #define CNNCORE_APART __noinline__ __host__ __device__
#else
  #define CNNCORE_APART inline
#endif

namespace cnncore::cuda {

template <class T>
struct Finishing {
  const T* bias = nullptr;
  const T* residual = nullptr;  // laid out like the result
  int activation = -1;          // an Activation
  double p = 0, q = 0;
};

// Once in a kernel, however often it is unrolled.
template <class T>
CNNCORE_APART T activated(int kind, T p, T q, T x) {
  switch (static_cast<Activation>(kind)) {
#define CNNCORE_CASE(name, type, parameters) \
  case Activation::name:                     \
    return type::template at<0>(x, p, q);
    CNNCORE_ACTIVATIONS(CNNCORE_CASE)
#undef CNNCORE_CASE
    default:
      return x;
  }
}

template <class T, class Sum>
CNNCORE_HD T finished(const Finishing<T>& f, Sum value, index_t bias, index_t offset) {
  if (f.bias != nullptr) value += widen(f.bias[bias]);
  if (f.residual != nullptr) value += widen(f.residual[offset]);
  if (f.activation >= 0)
    value = activated<Sum>(f.activation, static_cast<Sum>(f.p), static_cast<Sum>(f.q), value);
  T result;
  narrow(value, result);
  return result;
}

}  // namespace cnncore::cuda
