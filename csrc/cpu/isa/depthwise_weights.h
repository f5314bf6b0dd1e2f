// What the loops of depthwise convolutions share. Include from csrc/cpu/isa only.
#pragma once

#include "cpu/isa/simd.h"
#include "cpu/isa/wide.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

template <class T>
using Vector = typename Simd<T>::vector;

template <class T, int K>
struct Weights {
  CNNCORE_HD explicit Weights(const T* weight) {
#pragma GCC unroll 49
    for (int k = 0; k < K * K; ++k) at[k] = broadcast(weight[k]);
  }
  Vector<T> at[K * K];
};

// Sums over the pixels of a plane, one a tap, lane by lane: the sum of their lanes.
template <class T, int kTaps>
CNNCORE_HD void total_lanes(const Vector<T> (&sum)[kTaps], T* gweight) {
  for (int k = 0; k < kTaps; ++k) {
    T lanes[Simd<T>::width];
    store(lanes, sum[k]);
    fold<Simd<T>::width>(lanes);
    gweight[k] = lanes[0];
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
