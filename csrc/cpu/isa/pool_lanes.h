// What the loops of max pooling share: vectors of values beside vectors of winners. Include from
// csrc/cpu/isa only.
#pragma once

#if defined(__AVX512F__)
  #include <immintrin.h>
#endif
#include <math.h>

#include "cpu/isa/pool.h"
#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

template <class T>
struct PoolLanes {
  using Index = typename PoolIndex<T>::type;
  using Value = typename Simd<T>::vector;
  using Indices = typename Simd<Index>::vector;
  static constexpr int width = Simd<T>::width;
};

template <class T>
constexpr T kLowest = -static_cast<T>(INFINITY);

// Strictly: of equal values the earlier one stays.
template <class T>
CNNCORE_HD void take_larger(typename PoolLanes<T>::Value& best,
                            typename PoolLanes<T>::Indices& winner,
                            typename PoolLanes<T>::Value value,
                            typename PoolLanes<T>::Indices index) {
  winner = value > best ? index : winner;
  best = value > best ? value : best;
}

// Vectors of outputs 0..count: whole ones, the last ending at `count` where that is possible.
template <class T, class Function>
CNNCORE_HD void each_vector(index_t count, Function&& visit) {
  constexpr int width = PoolLanes<T>::width;
  index_t j = 0;
  for (; j + width <= count; j += width) visit(j);
  if (j < count) visit(max_of(0, count - width));
}

// 32-bit winners as the 64-bit ones of the result, two vectors of them; put(to, vector) stores one.
template <class Put>
CNNCORE_HD void widen(Simd<std::int32_t>::vector from, std::int64_t* to, Put&& put) {
  using Wide = Simd<std::int64_t>::vector;
  typedef std::int32_t Half __attribute__((vector_size(kVectorBytes / 2)));
  Half parts[2];
  __builtin_memcpy(parts, &from, sizeof from);
#if defined(__AVX512F__)  // the compiler would take four steps for each
  const auto first = (Wide)_mm512_maskz_cvtepi32_epi64(0xff, (__m256i)parts[0]);
  const auto second = (Wide)_mm512_maskz_cvtepi32_epi64(0xff, (__m256i)parts[1]);
#else
  const auto first = __builtin_convertvector(parts[0], Wide);
  const auto second = __builtin_convertvector(parts[1], Wide);
#endif
  put(to, first);
  put(to + Simd<std::int64_t>::width, second);
}
template <class Put>
CNNCORE_HD void widen(Simd<std::int64_t>::vector from, std::int64_t* to, Put&& put) {
  put(to, from);
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
