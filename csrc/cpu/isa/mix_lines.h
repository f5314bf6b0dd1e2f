// Weighted sums of lines: what both forms of resampling do to the rows of a plane. Include from
// csrc/cpu/isa only.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/macros.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// line[i] = Σ_t weight[t] · from[t][i] for `count` vectors V (unaligned), `taps` at a time; added
// to what the line holds where taps came before.
template <class V, int taps, class T>
CNNCORE_HD void mix_some_lines(const T* const* from, const T* weight, bool more, index_t count,
                               T* line) {
  constexpr index_t width = static_cast<index_t>(sizeof(V) / sizeof(T));
  const auto at = [](const T* p) -> const V& { return *reinterpret_cast<const V*>(p); };
  for (index_t i = 0; i < count * width; i += width) {
    V sum = weight[0] * at(from[0] + i);
#pragma GCC unroll 4
    for (int t = 1; t < taps; ++t) sum += weight[t] * at(from[t] + i);
    if (more) sum += at(line + i);
    *reinterpret_cast<V*>(line + i) = sum;
  }
}

// The same for any number of taps; locate(t, from, weight) says where tap t stands.
template <class V, class T, class Locate>
CNNCORE_HD void mix_lines(index_t taps, index_t count, T* line, Locate&& locate) {
  constexpr index_t kAtOnce = 4;
  for (index_t t = 0; t < taps; t += kAtOnce) {
    const T* from[kAtOnce];
    T weight[kAtOnce];
    const index_t some = min_of(kAtOnce, taps - t);
    for (index_t k = 0; k < some; ++k) locate(t + k, from[k], weight[k]);
    if (some == 1)
      mix_some_lines<V, 1>(from, weight, t > 0, count, line);
    else if (some == 2)
      mix_some_lines<V, 2>(from, weight, t > 0, count, line);
    else if (some == 3)
      mix_some_lines<V, 3>(from, weight, t > 0, count, line);
    else
      mix_some_lines<V, 4>(from, weight, t > 0, count, line);
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
