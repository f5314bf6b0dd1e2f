// The two loops behind a roofline. See cpu/probe.h.
#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// Twelve sums that do not depend on each other: a multiply-add takes four cycles and two start in
// each, so eight would do if the scheduler were perfect; twelve and two factors fit 16 registers.
// The compiler must not know their values: it works out a sum that never changes, which a first
// value of one would give, and the loop would then count work that nobody does.
template <class T>
double multiply_add_loop(index_t rounds) {
  using V = typename Simd<T>::vector;
  constexpr int kSums = 12;
  V sums[kSums];
  const volatile T start = T(2);
  for (int i = 0; i < kSums; ++i) sums[i] = broadcast<T>(start + static_cast<T>(i));
  V factor = broadcast<T>(T(0.999)), term = broadcast<T>(T(0.001));
  for (index_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + term;
  }
  V total = sums[0];
  for (int i = 1; i < kSums; ++i) total += sums[i];
  // The compiler must believe that somebody reads the sums.
  volatile T seen = total[0];
  (void)seen;
  return 2.0 * kSums * Simd<T>::width * static_cast<double>(rounds);
}

void triad_loop(float* a, const float* b, const float* c, index_t count) {
  constexpr index_t width = Simd<float>::width;
  const Simd<float>::vector scale = broadcast(0.5f);
  index_t i = 0;
  for (; i + 4 * width <= count; i += 4 * width)
    for (index_t j = i; j < i + 4 * width; j += width)
      store(a + j, load(b + j) + scale * load(c + j));
  for (; i < count; ++i) a[i] = b[i] + 0.5f * c[i];
}

template double multiply_add_loop<float>(index_t);
template double multiply_add_loop<double>(index_t);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
