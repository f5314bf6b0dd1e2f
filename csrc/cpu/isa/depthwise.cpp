// The filter over a line of cpu/conv/depthwise.h.
#include "cpu/conv/depthwise.h"

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr int kVectors = 4;  // at a time: enough to hide the latency of a multiply-add

// kTaps = 0: any number.
template <int kTaps, class T>
void filter(const T* band, const index_t* offset, const T* weight, index_t any_taps, T bias,
            T* line, index_t n) {
  using Vector = typename Simd<T>::vector;
  constexpr index_t width = Simd<T>::width;
  const index_t taps = kTaps != 0 ? kTaps : any_taps;
  index_t i = 0;
  for (; i + (kVectors - 1) * width < n; i += kVectors * width) {
    Vector sum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = broadcast(bias);
    for (index_t t = 0; t < taps; ++t) {
      const T* const from = band + offset[t] + i;
      const T w = weight[t];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[v] += w * load(from + v * width);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(line + i + v * width, sum[v]);
  }
  for (; i < n; i += width) {
    Vector sum = broadcast(bias);
    for (index_t t = 0; t < taps; ++t) sum += weight[t] * load(band + offset[t] + i);
    store(line + i, sum);
  }
}

}  // namespace

template <class T>
void filter_line(const T* band, const index_t* offset, const T* weight, index_t taps, T bias,
                 T* line, index_t n) {
  if (taps == 9)
    filter<9>(band, offset, weight, taps, bias, line, n);
  else if (taps == 25)
    filter<25>(band, offset, weight, taps, bias, line, n);
  else
    filter<0>(band, offset, weight, taps, bias, line, n);
}

template void filter_line(const float*, const index_t*, const float*, index_t, float, float*,
                          index_t);
template void filter_line(const double*, const index_t*, const double*, index_t, double, double*,
                          index_t);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
