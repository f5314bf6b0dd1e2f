#include "cpu/pool.h"

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"
#include "cpu/isa/pool.h"
#include "cpu/isa/pool_half.h"
#include "cpu/isa/pool_separable.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void max_pool_loop(
    const T* x, const MaxPoolPlan<T>& plan, index_t planes, T* split, T* y, std::int64_t* winners))

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void half_pool_loop(const HalfPool<T>& plan,
                                                                    const T* x, index_t planes,
                                                                    const HalfPoolSpace<T>& space,
                                                                    T* y, std::int64_t* winners))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void separable_pool_loop(const T* x, const SeparablePool<T>& plan,
                                                      index_t planes, const PoolSpace<T>& space,
                                                      T* y, std::int64_t* winners))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void bin_max_loop(
    const T* x, const T* x_end, const BinsView& rows, const BinsView& cols, index_t region,
    T* best_of, typename PoolIndex<T>::type* row_of, T* y, std::int64_t* winners))

namespace {

// Every window must see a pixel: its maximum has no meaning otherwise.
void check_windows(const Window1d& window, index_t size, index_t count, const char* axis) {
  for (index_t output = 0; output < count; ++output) {
    index_t first, last;
    window.taps_inside(output, size, first, last);
    if (first >= last)
      throw ArgumentError("output_size", std::string("windows that see a pixel along ") + axis,
                          "window " + std::to_string(output) + " of " + std::to_string(count),
                          "less padding or a smaller output");
  }
}

// Windows of a row that begin with `before` pixels of padding and end inside it.
index_t whole_windows(const Window1d& w, index_t size, index_t count) {
  const index_t room = size + w.before - w.kernel;  // the last window inside begins here at most
  return room < 0 ? 0 : min_of(count, room / w.stride + 1);
}

// Whether winners had better go past the caches, and can: in whole vectors, all of them aligned.
bool streams(index_t bytes, index_t out_width, const std::int64_t* winners) {
  // Of a last cache that other cores use, too, not much more is ours; its size is no help, as
  // virtual machines name that of the whole machine.
  constexpr index_t kShare = index_t{16} << 20;
  constexpr index_t kLine = 64, kSize = sizeof(std::int64_t);
  return bytes > kShare && out_width >= kPoolLanes && out_width * kSize % kLine == 0 &&
         reinterpret_cast<std::uintptr_t>(winners) % kLine == 0;
}

// 2x2 and 3x3 with stride 2: see isa/pool_half.cpp.
template <class T>
void half_max_pool(ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                   ArrayView<std::int64_t> winners) {
  using Index = typename PoolIndex<T>::type;
  constexpr index_t kSize = sizeof(T);
  const index_t out_width = y[3], plane = y[2] * y[3];
  const index_t bytes = (x.size() + y.size()) * kSize + winners.size() * 8;
  HalfPool<T> plan{x[2],
                   x[3],
                   y[2],
                   out_width,
                   window.h.kernel,
                   window.h.before,
                   window.w.before,
                   whole_windows(window.w, x[3], out_width),
                   streams(bytes, out_width, winners.data),
                   x.data,
                   0};
  plan.last = x.size() - plan.row_room();
  const auto loop = CNNCORE_SELECT_ISA(half_pool_loop<T>);
  parallel_for(y[0] * y[1], grain_for(x[2] * x[3]), [&](index_t first, index_t last) {
    const Scratch<T> rows(2 * plan.row_room()), values(2 * plan.pitch());
    const Scratch<Index> taps(2 * plan.pitch());
    loop(plan, x.data + first * x[2] * x[3], last - first,
         {rows.data(), values.data(), taps.data()}, y.data + first * plane,
         winners.data + first * plane);
  });
}

// Windows without dilation, of any plane: see isa/pool_separable.cpp.
template <class T>
void separable_max_pool(ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                        ArrayView<std::int64_t> winners) {
  using Index = typename PoolIndex<T>::type;
  constexpr index_t kBandBytes = 16384;  // half of the first-level cache
  const index_t height = x[2], width = x[3], out_height = y[2], out_width = y[3];
  const Window1d& w = window.w;
  const index_t inside_end = whole_windows(w, width, out_width);
  SeparablePool<T> plan{
      height, width, out_height, out_width, window, ceil_div(w.before, w.stride), inside_end, 1};
  const index_t line_bytes = plan.pitch() * static_cast<index_t>(sizeof(T) + sizeof(Index));
  const index_t rows = kBandBytes / (line_bytes * window.h.stride);
  plan.band = ceil_div(out_height, ceil_div(out_height, max_of(1, rows)));
  const index_t space = checked_product(plan.lines(), plan.pitch());
  const auto loop = CNNCORE_SELECT_ISA(separable_pool_loop<T>);
  const index_t planes = y[0] * y[1], plane = out_height * out_width;
  parallel_for(planes, grain_for(height * width), [&](index_t first, index_t last) {
    const Scratch<T> row(plan.row_room()), values(space);
    const Scratch<Index> taps(space);
    loop(x.data + first * height * width, plan, last - first,
         {x.data, x.data + x.size(), row.data(), values.data(), taps.data()},
         y.data + first * plane, winners.data + first * plane);
  });
}

}  // namespace

CNNCORE_KERNEL(max_pool2d);
template <class T>
void max_pool2d(ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                ArrayView<std::int64_t> winners) {
  if (y.size() == 0) return;
  const index_t height = x[2], width = x[3], out_height = y[2], out_width = y[3];
  check_windows(window.h, height, out_height, "the height");
  check_windows(window.w, width, out_width, "the width");
  if (halves(window)) return half_max_pool(x, window, y, winners);
  if (separable_pool(window)) return separable_max_pool(x, window, y, winners);
  const Window1d& w = window.w;
  const index_t whole = round_up(out_width, kPoolLanes);
  const Scratch<typename PoolIndex<T>::type> first_offset(whole);
  for (index_t ow = 0; ow < whole; ++ow) {
    index_t first = 0, last;
    if (ow < out_width) w.taps_inside(ow, width, first, last);
    first_offset[ow] = static_cast<typename PoolIndex<T>::type>(first * w.dilation - w.before);
  }
  const index_t pitch = whole + (w.kernel - 1) * w.dilation / w.stride;
  const MaxPoolPlan<T> plan{height, width, out_height,         out_width,
                            window, pitch, first_offset.data()};
  checked_product(height, plan.phases(), pitch);
  const auto loop = CNNCORE_SELECT_ISA(max_pool_loop<T>);
  const index_t work = height * width + out_height * whole * window.h.kernel * w.kernel / 4;
  parallel_for(y[0] * y[1], grain_for(work), [&](index_t first, index_t last) {
    const Scratch<T> split(plan.scratch());
    loop(x.data + first * height * width, plan, last - first, split.data(),
         y.data + first * out_height * out_width, winners.data + first * out_height * out_width);
  });
}

CNNCORE_KERNEL(bin_max);
template <class T>
void bin_max(ArrayView<const T> x, ArrayView<const std::int64_t> image, const BinsView& rows,
             const BinsView& cols, ArrayView<T> y, ArrayView<std::int64_t> winners) {
  const index_t channels = y[1], ph = y[2], pw = y[3], plane = x[2] * x[3];
  const auto loop = CNNCORE_SELECT_ISA(bin_max_loop<T>);
  // A region covers about the plane at most; most are far smaller.
  const index_t work = max_of(ph * pw * 4, plane / 8);
  parallel_for(y[0] * channels, grain_for(work), [&](index_t first, index_t last) {
    const Scratch<T> best(x[3] + kPoolLanes);
    const Scratch<typename PoolIndex<T>::type> row(x[3] + kPoolLanes);
    for (index_t task = first; task < last; ++task) {
      const index_t region = task / channels, channel = task % channels;
      loop(x.data + (image.data[region] * channels + channel) * plane, x.data + x.size(), rows,
           cols, region, best.data(), row.data(), y.data + task * ph * pw,
           winners.data + task * ph * pw);
    }
  });
}

#define CNNCORE_INSTANTIATE(T)                                                              \
  template void max_pool2d(ArrayView<const T>, const Window2d&, ArrayView<T>,               \
                           ArrayView<std::int64_t>);                                        \
  template void bin_max(ArrayView<const T>, ArrayView<const std::int64_t>, const BinsView&, \
                        const BinsView&, ArrayView<T>, ArrayView<std::int64_t>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
