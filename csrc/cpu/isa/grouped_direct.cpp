#include "cpu/grouped_direct.h"

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Calls f(tap, first output, outputs, input column, input row, output row) for every row of windows
// and every tap that sees pixels; output rows are outermost, so that they stay in the cache.
template <class T, class Function>
CNNCORE_HD void for_each_run(const DirectPlanes<T>& p, Function f) {
  for (index_t i = 0; i < p.oh; ++i) {
    index_t first_tap, last_tap;
    p.window.h.taps_inside(i, p.height, first_tap, last_tap);
    for (index_t kh = first_tap; kh < last_tap; ++kh) {
      for (index_t kw = 0; kw < p.window.w.kernel; ++kw) {
        index_t first, last;
        p.window.w.outputs_inside(kw, p.width, p.ow, first, last);
        if (first < last)
          f(kh * p.window.w.kernel + kw, i * p.ow + first, last - first,
            p.window.h.input(i, kh) * p.width + p.window.w.input(first, kw));
      }
    }
  }
}

template <class T>
CNNCORE_HD T dot(const T* a, const T* b, index_t count, index_t b_step) {
  constexpr index_t width = Simd<T>::width;
  T sum = 0;
  index_t i = 0;
  if (b_step == 1 && count >= width) {
    typename Simd<T>::vector sums{};
    for (; i + width <= count; i += width) sums += load(a + i) * load(b + i);
    for (index_t j = 0; j < width; ++j) sum += sums[j];
  }
  for (; i < count; ++i) sum += a[i] * b[i * b_step];
  return sum;
}

template <class T>
void transpose(const DirectPlanes<T>& p, const T* gy, const T* weight, T* gx) {
  const index_t step = p.window.w.stride;
  for_each_run(p, [&](index_t tap, index_t output, index_t count, index_t pixel) {
    const T w = weight[tap];
    const T* __restrict from = gy + output;
    T* __restrict to = gx + pixel;
    if (step == 1) {
      for (index_t j = 0; j < count; ++j) to[j] += w * from[j];
    } else {
      for (index_t j = 0; j < count; ++j) to[step * j] += w * from[j];
    }
  });
}

template <class T>
void weight_gradient(const DirectPlanes<T>& p, const T* x, const T* gy, T* gweight) {
  for_each_run(p, [&](index_t tap, index_t output, index_t count, index_t pixel) {
    gweight[tap] += dot(gy + output, x + pixel, count, p.window.w.stride);
  });
}

}  // namespace

DirectKernels<float> direct_kernels_f32() {
  return {&transpose<float>, &weight_gradient<float>};
}

DirectKernels<double> direct_kernels_f64() {
  return {&transpose<double>, &weight_gradient<double>};
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
