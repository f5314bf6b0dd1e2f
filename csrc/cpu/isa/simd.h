// Vectors of the instruction set this source is compiled for, as GCC vector extensions: one source
// serves SSE2, AVX2, AVX-512 and NEON. Include from csrc/cpu/isa only.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/macros.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Simd {
  static constexpr int width = kVectorBytes / static_cast<int>(sizeof(T));
  typedef T vector __attribute__((vector_size(kVectorBytes)));
  // The same bytes without an alignment promise; may_alias because buffers are plain T arrays.
  typedef T unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};

template <class T>
CNNCORE_HD typename Simd<T>::vector load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::unaligned*>(p);
}

template <class T>
CNNCORE_HD void store(T* p, typename Simd<T>::vector v) {
  *reinterpret_cast<typename Simd<T>::unaligned*>(p) = v;
}

template <class T>
CNNCORE_HD typename Simd<T>::vector broadcast(T value) {
  return value - typename Simd<T>::vector{};
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
