// The register transpose. Include from csrc/cpu/isa only.
#pragma once

#include <cstddef>
#include <utility>

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

template <class V, std::size_t... I>
CNNCORE_HD V interleave_low(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (I % 2 ? sizeof...(I) + I / 2 : I / 2)...);
}

template <class V, std::size_t... I>
CNNCORE_HD V interleave_high(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(
      a, b, (I % 2 ? sizeof...(I) + (sizeof...(I) + I) / 2 : (sizeof...(I) + I) / 2)...);
}

// Transposes a square of `width` vectors: log2(width) passes, each a perfect shuffle of the rows,
// rotate the bits of (row, column) until the two have changed places.
template <class T>
CNNCORE_HD void transpose_square(typename Simd<T>::vector* a) {
  constexpr int width = Simd<T>::width;
  constexpr auto lanes = std::make_index_sequence<width>();
  typename Simd<T>::vector b[width];
#pragma GCC unroll 4
  for (int pass = 1; pass < width; pass *= 2) {
#pragma GCC unroll 8
    for (int r = 0; r < width / 2; ++r) {
      b[2 * r] = interleave_low(a[r], a[r + width / 2], lanes);
      b[2 * r + 1] = interleave_high(a[r], a[r + width / 2], lanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < width; ++r) a[r] = b[r];
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
