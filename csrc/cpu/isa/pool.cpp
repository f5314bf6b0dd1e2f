// Max pooling of whole planes. See cpu/pool.cpp.
#include "cpu/isa/pool.h"

#include <math.h>

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Copies a plane into its phases; what lies between them keeps its padding.
template <class T>
void split_phases(const T* __restrict x, const MaxPoolPlan<T>& plan, T* __restrict split) {
  const index_t stride = plan.window.w.stride, left = plan.window.w.before;
  for (index_t h = 0; h < plan.height; ++h, x += plan.width)
    for (index_t phase = 0; phase < plan.phases(); ++phase, split += plan.pitch) {
      // padded column phase + j · stride is column phase + j · stride - left
      const index_t first = phase >= left ? 0 : ceil_div(left - phase, stride);
      const index_t column = first * stride + phase - left;
      const index_t count = column >= plan.width
                                ? 0
                                : min_of(ceil_div(plan.width - column, stride), plan.pitch - first);
      T* __restrict to = split + first;
      const T* __restrict from = x + column;
      if (stride == 1)
        for (index_t j = 0; j < count; ++j) to[j] = from[j];
      else if (stride == 2)
        for (index_t j = 0; j < count; ++j) to[j] = from[2 * j];
      else
        for (index_t j = 0; j < count; ++j) to[j] = from[stride * j];
    }
}

// One row of windows. Earlier taps have lower flat indices, so only a larger value, or the first
// NaN, takes over; padding is -infinity and never does, since a window starts with -infinity and
// the index of its first pixel.
template <class T>
void pool_row(const T* split, const MaxPoolPlan<T>& plan, index_t oh, T* y, std::int64_t* winners) {
  using Value = typename Simd<T>::vector;
  using Index = typename PoolIndex<T>::type;
  using Indices = typename Simd<Index>::vector;
  constexpr index_t width = Simd<T>::width;
  const Window1d &h = plan.window.h, &w = plan.window.w;
  index_t first, last;
  h.taps_inside(oh, plan.height, first, last);
  Indices lanes;
  for (index_t lane = 0; lane < width; ++lane) lanes[lane] = static_cast<Index>(lane * w.stride);

  for (index_t begin = 0; begin < plan.out_width; begin += width) {
    Value best = broadcast(-static_cast<T>(INFINITY));
    Indices winner =
        load(plan.first_offset + begin) + static_cast<Index>(h.input(oh, first) * plan.width);
    for (index_t kh = first; kh < last; ++kh) {
      const index_t row = h.input(oh, kh);
      const T* from = split + row * plan.phases() * plan.pitch + begin;
      index_t phase = 0, shift = 0;  // of tap kw
      for (index_t kw = 0; kw < w.kernel; ++kw) {
        const Value value = load(from + phase * plan.pitch + shift);
        const auto wins = ~(value <= best) & (best == best);
        best = wins ? value : best;
        const auto flat = static_cast<Index>(row * plan.width + kw * w.dilation - w.before);
        winner = wins ? broadcast(flat) : winner;
        for (phase += w.dilation; phase >= w.stride; phase -= w.stride) ++shift;
      }
    }
    winner += lanes + static_cast<Index>(begin * w.stride);
    if (begin + width <= plan.out_width) {
      store(y + begin, best);
      for (index_t lane = 0; lane < width; ++lane) winners[begin + lane] = winner[lane];
    } else {
      for (index_t lane = 0; begin + lane < plan.out_width; ++lane) {
        y[begin + lane] = best[lane];
        winners[begin + lane] = winner[lane];
      }
    }
  }
}

}  // namespace

// `split` holds plan.scratch() elements.
template <class T>
void max_pool_loop(const T* x, const MaxPoolPlan<T>& plan, index_t planes, T* split, T* y,
                   std::int64_t* winners) {
  for (index_t i = 0; i < plan.scratch(); ++i) split[i] = -static_cast<T>(INFINITY);
  for (index_t plane = 0; plane < planes; ++plane, x += plan.height * plan.width) {
    split_phases(x, plan, split);
    for (index_t oh = 0; oh < plan.out_height; ++oh) {
      pool_row(split, plan, oh, y, winners);
      y += plan.out_width;
      winners += plan.out_width;
    }
  }
}

template void max_pool_loop(const float*, const MaxPoolPlan<float>&, index_t, float*, float*,
                            std::int64_t*);
template void max_pool_loop(const double*, const MaxPoolPlan<double>&, index_t, double*, double*,
                            std::int64_t*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
