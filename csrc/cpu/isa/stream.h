// Stores that leave the caches alone, for results larger than they are: the lines need not be read
// before they are written, and what lies in the caches stays there. Include from csrc/cpu/isa only.
#pragma once

#if defined(__SSE2__)
  #include <immintrin.h>
#endif

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// p is aligned to a whole vector.
template <class T>
CNNCORE_HD void stream(T* p, typename Simd<T>::vector v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store(p, v);
#endif
}

// Other threads see what was streamed before this only after it.
CNNCORE_HD void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
