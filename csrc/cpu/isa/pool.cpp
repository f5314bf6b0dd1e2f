// Max pooling of whole planes. See cpu/pool.cpp.
#include "cpu/isa/pool.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr index_t kTile = 128;  // windows worked on together

// Offers one tap to a run of windows, step columns apart. Earlier taps have lower flat indices, so
// only a larger value, or the first NaN, takes over.
template <int fixed_step, class T>
CNNCORE_HD void offer(const T* __restrict x, std::int32_t flat, index_t step, index_t n,
                      T* __restrict best, std::int32_t* __restrict winner) {
  if (fixed_step != 0) step = fixed_step;
  const auto stride = static_cast<std::int32_t>(step);
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(n); ++i) {
    const T value = x[i * step];
    const bool wins = !(value <= best[i]) & (best[i] == best[i]);
    best[i] = wins ? value : best[i];
    winner[i] = wins ? flat + i * stride : winner[i];
  }
}

// One row of windows, begin <= ow < end.
template <int fixed_step, class T>
void pool_row(const T* x, const MaxPoolPlan& plan, index_t oh, index_t begin, index_t end, T* best,
              std::int32_t* winner) {
  const Window1d &h = plan.window.h, &w = plan.window.w;
  index_t first, last;
  h.taps_inside(oh, plan.height, first, last);
  const index_t top = h.input(oh, first) * plan.width;
  for (index_t ow = begin; ow < end; ++ow) {
    const index_t flat = top + plan.first_column[ow];
    best[ow - begin] = x[flat];
    winner[ow - begin] = static_cast<std::int32_t>(flat);
  }
  for (index_t kh = first; kh < last; ++kh) {
    const index_t row = h.input(oh, kh) * plan.width;
    for (index_t kw = 0; kw < w.kernel; ++kw) {
      const index_t from = max_of(begin, plan.begin[kw]), to = min_of(end, plan.end[kw]);
      if (from >= to) continue;
      const index_t flat = row + w.input(from, kw);
      offer<fixed_step>(x + flat, static_cast<std::int32_t>(flat), w.stride, to - from,
                        best + (from - begin), winner + (from - begin));
    }
  }
}

template <int fixed_step, class T>
void pool_planes(const T* x, const MaxPoolPlan& plan, index_t planes, T* y, std::int64_t* winners) {
  std::int32_t winner[kTile];
  for (index_t plane = 0; plane < planes; ++plane, x += plan.height * plan.width)
    for (index_t oh = 0; oh < plan.out_height; ++oh) {
      for (index_t begin = 0; begin < plan.out_width; begin += kTile) {
        const index_t end = min_of(plan.out_width, begin + kTile);
        pool_row<fixed_step>(x, plan, oh, begin, end, y + begin, winner);
        for (index_t i = 0; i < end - begin; ++i) winners[begin + i] = winner[i];
      }
      y += plan.out_width;
      winners += plan.out_width;
    }
}

}  // namespace

template <class T>
void max_pool_loop(const T* x, const MaxPoolPlan& plan, index_t planes, T* y,
                   std::int64_t* winners) {
  if (plan.window.w.stride == 1)
    pool_planes<1>(x, plan, planes, y, winners);
  else if (plan.window.w.stride == 2)
    pool_planes<2>(x, plan, planes, y, winners);
  else
    pool_planes<0>(x, plan, planes, y, winners);
}

template void max_pool_loop(const float*, const MaxPoolPlan&, index_t, float*, std::int64_t*);
template void max_pool_loop(const double*, const MaxPoolPlan&, index_t, double*, std::int64_t*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
