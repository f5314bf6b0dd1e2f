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
#pragma GCC unroll 25
    for (int k = 0; k < K * K; ++k) at[k] = broadcast(weight[k]);
  }
  Vector<T> at[K * K];
};

// R vectors of results, each summed in a part for every column of the kernel where registers allow
// it: a chain of 9 multiply-adds, each waiting 4 cycles for the one before, is longer than what a
// processor looks ahead.
template <int R, class T, int K>
struct Sums {
  static constexpr int parts = K == 3 && kVectorRegisters == 32 ? 3 : 1;

  // Row i of the kernel meets result r.
  CNNCORE_HD void add(int r, int i, const Weights<T, K>& weights, const Vector<T> (&taps)[K]) {
#pragma GCC unroll 5
    for (int j = 0; j < K; ++j) at[r][j % parts] += weights.at[i * K + j] * taps[j];
  }
  CNNCORE_HD void start(int r, Vector<T> value) {
    at[r][0] = value;
#pragma GCC unroll 3
    for (int part = 1; part < parts; ++part) at[r][part] = Vector<T>{};
  }
  CNNCORE_HD Vector<T> total(int r) const {
    return parts == 3 ? at[r][0] + (at[r][1] + at[r][2]) : at[r][0];
  }

  Vector<T> at[R][parts];
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
