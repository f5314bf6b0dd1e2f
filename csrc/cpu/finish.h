// What is done to a result before anybody else sees it: y -> f(y + residual).
//
// A kernel that has just written a run of results calls finish_run() while they are in the cache.
#pragma once

#include "cnncore/activation.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

constexpr int kNoActivation = -1;

template <class T>
struct Finish {
  const T* residual = nullptr;     // laid out like the result; may be null
  int activation = kNoActivation;  // an Activation
  T p = 0, q = 0;                  // its parameters

  bool needed() const { return residual != nullptr || activation != kNoActivation; }
};

template <class T>
using FinishRun = void (*)(int activation, T p, T q, const T* residual, T* y, index_t n);

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void finish_loop(int activation, T p, T q,
                                                                 const T* residual, T* y,
                                                                 index_t n))

// y[i] = f(y[i] + residual[i]), i < n; `residual` may be null.
template <class T>
inline void finish_run(const Finish<T>& finish, const T* residual, T* y, index_t n) {
  CNNCORE_SELECT_ISA(finish_loop<T>)(finish.activation, finish.p, finish.q, residual, y, n);
}

// A whole result in a pass of its own.
template <class T>
void finish_all(const Finish<T>& finish, T* y, index_t n);

}  // namespace cnncore
