// Parts of vectors, and the shuffles of two vectors that sort lanes by even and odd. Include from
// csrc/cpu/isa only.
#pragma once

#if defined(__AVX2__)
  #include <immintrin.h>
#endif

#include <type_traits>
#include <utility>

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// The lanes first <= lane < last of a vector of T; both ends may lie beyond it on either side.
#if defined(__AVX512F__)

template <class T>
struct Lanes {
  CNNCORE_HD Lanes() {}
  CNNCORE_HD Lanes(index_t first, index_t last) : bits(below(last) & ~below(first)) {}

  static CNNCORE_HD unsigned below(index_t lane) {
    return (1U << max_of(0, min_of(lane, Simd<T>::width))) - 1U;
  }

  unsigned bits;
};

CNNCORE_HD __m512 load_lanes(const float* p, const Lanes<float>& lanes) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes.bits), p);
}
CNNCORE_HD __m512d load_lanes(const double* p, const Lanes<double>& lanes) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes.bits), p);
}
CNNCORE_HD __m512 keep_lanes(__m512 v, const Lanes<float>& lanes) {
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(lanes.bits), v);
}
CNNCORE_HD __m512d keep_lanes(__m512d v, const Lanes<double>& lanes) {
  return _mm512_maskz_mov_pd(static_cast<__mmask8>(lanes.bits), v);
}
CNNCORE_HD void store_lanes(float* p, __m512 v, const Lanes<float>& lanes) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lanes.bits), v);
}
CNNCORE_HD void store_lanes(double* p, __m512d v, const Lanes<double>& lanes) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lanes.bits), v);
}

#elif defined(__AVX2__)

template <class T>
struct Lanes {
  CNNCORE_HD Lanes() {}
  CNNCORE_HD Lanes(index_t first_, index_t last_) : first(clamp(first_)), last(clamp(last_)) {
    if constexpr (sizeof(T) == 4) {
      const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      bits = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane),
                                 _mm256_cmpgt_epi32(_mm256_set1_epi32(last), lane));
    } else {
      const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
      bits = _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(first), lane),
                                 _mm256_cmpgt_epi64(_mm256_set1_epi64x(last), lane));
    }
  }
  static CNNCORE_HD int clamp(index_t lane) {
    return static_cast<int>(max_of(0, min_of(lane, Simd<T>::width)));
  }
  __m256i bits;
  int first, last;
};

CNNCORE_HD __m256 load_lanes(const float* p, const Lanes<float>& lanes) {
  return _mm256_maskload_ps(p, lanes.bits);
}
CNNCORE_HD __m256d load_lanes(const double* p, const Lanes<double>& lanes) {
  return _mm256_maskload_pd(p, lanes.bits);
}
CNNCORE_HD __m256 keep_lanes(__m256 v, const Lanes<float>& lanes) {
  return _mm256_and_ps(v, _mm256_castsi256_ps(lanes.bits));
}
CNNCORE_HD __m256d keep_lanes(__m256d v, const Lanes<double>& lanes) {
  return _mm256_and_pd(v, _mm256_castsi256_pd(lanes.bits));
}

// Without a masked store: some processors make twenty instructions of it.
template <class T>
CNNCORE_HD void store_lanes(T* p, typename Simd<T>::vector v, const Lanes<T>& lanes) {
  if (lanes.first == 0 && lanes.last == Simd<T>::width) {
    store(p, v);
    return;
  }
  T all[Simd<T>::width];
  store(all, v);
  for (int lane = lanes.first; lane < lanes.last; ++lane) p[lane] = all[lane];
}

#else

template <class T>
struct Lanes {
  CNNCORE_HD Lanes() {}
  CNNCORE_HD Lanes(index_t first_, index_t last_)
      : first(max_of(0, first_)), last(min_of(Simd<T>::width, last_)) {}
  index_t first, last;
};

template <class T>
CNNCORE_HD typename Simd<T>::vector load_lanes(const T* p, const Lanes<T>& lanes) {
  typename Simd<T>::vector v{};
  for (index_t lane = lanes.first; lane < lanes.last; ++lane) v[lane] = p[lane];
  return v;
}
template <class T>
CNNCORE_HD typename Simd<T>::vector keep_lanes(typename Simd<T>::vector v, const Lanes<T>& lanes) {
  for (index_t lane = 0; lane < Simd<T>::width; ++lane)
    if (lane < lanes.first || lane >= lanes.last) v[lane] = 0;
  return v;
}
template <class T>
CNNCORE_HD void store_lanes(T* p, typename Simd<T>::vector v, const Lanes<T>& lanes) {
  for (index_t lane = lanes.first; lane < lanes.last; ++lane) p[lane] = v[lane];
}

#endif

#if defined(__AVX512F__)

// Any permutation of two vectors a, b: lane l of the result is lane from[l] of (ab), or zero where
// from[l] is negative.
template <class T>
struct Picks {
  static constexpr index_t width = Simd<T>::width;

  CNNCORE_HD Picks() {}
  CNNCORE_HD explicit Picks(const index_t (&from)[width]) : bits(0) {
    for (index_t lane = 0; lane < width; ++lane) {
      numbers[lane] = from[lane] < 0 ? 0 : static_cast<Number>(from[lane]);
      if (from[lane] >= 0) bits |= 1U << lane;
    }
  }

  CNNCORE_HD typename Simd<T>::vector of(typename Simd<T>::vector a,
                                         typename Simd<T>::vector b) const {
    if constexpr (sizeof(T) == 4)
      return _mm512_maskz_permutex2var_ps(static_cast<__mmask16>(bits), a, (__m512i)numbers, b);
    else
      return _mm512_maskz_permutex2var_pd(static_cast<__mmask8>(bits), a, (__m512i)numbers, b);
  }
  CNNCORE_HD typename Simd<T>::vector of(typename Simd<T>::vector a) const {
    if constexpr (sizeof(T) == 4)
      return _mm512_maskz_permutexvar_ps(static_cast<__mmask16>(bits), (__m512i)numbers, a);
    else
      return _mm512_maskz_permutexvar_pd(static_cast<__mmask8>(bits), (__m512i)numbers, a);
  }

  using Number = std::conditional_t<sizeof(T) == 4, int, long long>;
  typedef Number Numbers __attribute__((vector_size(kVectorBytes)));
  Numbers numbers;
  unsigned bits;
};

#endif

template <class T>
constexpr auto lane_numbers() {
  return std::make_integer_sequence<int, Simd<T>::width>();
}

// Four shuffles of two vectors a, b as one run of lanes (ab): its even lanes, its odd lanes, and
// their inverse, the lanes of a and b in turn (first half and second half).
template <class V, int... I>
CNNCORE_HD V even_lanes(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...);
}
template <class V, int... I>
CNNCORE_HD V odd_lanes(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I + 1)...);
}
template <class V, int... I>
CNNCORE_HD V interleave_low(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (I % 2 ? n + I / 2 : I / 2)...);
}
template <class V, int... I>
CNNCORE_HD V interleave_high(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (I % 2 ? n + (n + I) / 2 : (n + I) / 2)...);
}

// Even or odd lanes in the order in which they take one shuffle: with AVX2, whose shuffles stay
// within the halves of a vector, not their own. in_order() puts them, and what is computed of them
// lane by lane, in order; and back.
constexpr int apart_lane(int lane, int n) {
  if (kVectorBytes != 32) return 2 * lane;
  const int half = n / 2, at = lane % half, each = half / 2;
  return lane / half * half + (at < each ? 2 * at : n + 2 * (at - each));
}
template <class V, int... I>
CNNCORE_HD V even_apart(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, apart_lane(I, sizeof...(I))...);
}
template <class V, int... I>
CNNCORE_HD V odd_apart(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (apart_lane(I, sizeof...(I)) + 1)...);
}
template <class V, int... I>
CNNCORE_HD V in_order(V v, std::integer_sequence<int, I...>) {
  if constexpr (kVectorBytes != 32) {
    return v;
  } else {  // the second quarter and the third change places
    constexpr int n = sizeof...(I), q = n / 4;
    return __builtin_shufflevector(v, v, (I / q == 1 ? I + q : I / q == 2 ? I - q : I)...);
  }
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
