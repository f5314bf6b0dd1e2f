// Vectors of 64 bytes on every instruction set: reductions built on them add in the same order
// everywhere, whatever the width of the registers. Include from csrc/cpu/isa only.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/macros.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

template <class T>
struct Wide {
  static constexpr int width = 64 / static_cast<int>(sizeof(T));
  typedef T vector __attribute__((vector_size(64)));
  typedef T unaligned __attribute__((vector_size(64), aligned(alignof(T)), may_alias));
};

template <class T>
CNNCORE_HD const typename Wide<T>::unaligned& wide_at(const T* p) {
  return *reinterpret_cast<const typename Wide<T>::unaligned*>(p);
}

// The second half of n numbers added to the first, as often as it takes to one number. The steps
// are instances of a template, since a loop over them stays a loop, which reads back what it has
// just written in vectors of another size.
template <int n, class T>
CNNCORE_HD void fold(T* sum) {
  if constexpr (n > 1) {
    for (int lane = 0; lane < n / 2; ++lane) sum[lane] += sum[lane + n / 2];
    fold<n / 2>(sum);
  }
}

// Lanes i and i + n/2 first, and so on: the same order everywhere, and few steps.
template <class T>
CNNCORE_HD double sum_lanes(const typename Wide<T>::vector& v) {
  constexpr int width = Wide<T>::width;
  double sum[width];
  for (int lane = 0; lane < width; ++lane) sum[lane] = static_cast<double>(v[lane]);
  fold<width>(sum);
  return sum[0];
}

// Elements that a reduction adds up in T before it goes on in double; 16 KB of float stay in L1.
constexpr index_t kSumBlock = 4096;

// The sum of a contiguous run.
template <class T>
CNNCORE_HD double sum_run(const T* x, index_t n) {
  constexpr index_t width = Wide<T>::width;
  double total = 0;
  for (index_t begin = 0; begin < n; begin += kSumBlock) {
    const index_t end = min_of(n, begin + kSumBlock);
    typename Wide<T>::vector sum0{}, sum1{};
    index_t i = begin;
    for (; i + 2 * width <= end; i += 2 * width) {
      sum0 += wide_at(x + i);
      sum1 += wide_at(x + i + width);
    }
    if (i + width <= end) {
      sum0 += wide_at(x + i);
      i += width;
    }
    sum0 += sum1;
    total += sum_lanes<T>(sum0);
    for (; i < end; ++i) total += static_cast<double>(x[i]);
  }
  return total;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
