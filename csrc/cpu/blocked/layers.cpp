#include "cpu/blocked/layers.h"

#include <algorithm>

#include "cnncore/memory_pool.h"
#include "cpu/blocked/bands.h"
#include "cpu/blocked/finish.h"
#include "cpu/isa/blocked.h"

namespace cnncore {

template <class T>
void to_blocked(const BlockedShape& s, const T* x, T* y) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t B = kernels.width, blocks = ceil_div(s.channels, B), pixels = s.pixels();
  parallel_for(s.images * blocks, grain_for(pixels * B), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t n = i / blocks, c = i % blocks * B, count = min_of(B, s.channels - c);
      T* const to = y + i * pixels * B;
      if (count < B) std::fill_n(to, pixels * B, T(0));
      kernels.transpose(x + (n * s.channels + c) * pixels, pixels, count, pixels, to, B, nullptr);
    }
  });
}

template <class T>
void from_blocked(const BlockedShape& s, const T* x, T* y) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t B = kernels.width, blocks = ceil_div(s.channels, B), pixels = s.pixels();
  parallel_for(s.images * blocks, grain_for(pixels * B), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t n = i / blocks, c = i % blocks * B;
      kernels.transpose(x + i * pixels * B, B, pixels, min_of(B, s.channels - c),
                        y + (n * s.channels + c) * pixels, pixels, nullptr);
    }
  });
}

template <class T>
void blocked_pool(const BlockedShape& s, const Window2d& window, index_t out_height,
                  index_t out_width, bool maximum, index_t divisor, const T* x, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const index_t B = block_lanes<T>(), blocks = ceil_div(s.channels, B);
  for_bands(s.images * blocks, out_height, out_width * B * window.h.kernel * window.w.kernel / 4,
            [&](index_t plane, index_t first, index_t last) {
              const BlockedRows<T> rows{window,
                                        s.height,
                                        s.width,
                                        out_width,
                                        first,
                                        last,
                                        x + plane * s.pixels() * B,
                                        y + (plane * out_height + first) * out_width * B};
              if (maximum)
                loops.pool_max(rows);
              else
                loops.pool_mean(rows, divisor);
            });
}

template <class T>
void blocked_mean(const BlockedShape& s, const T* x, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const index_t B = block_lanes<T>(), planes = s.images * ceil_div(s.channels, B);
  parallel_for(planes, grain_for(s.pixels() * B / 4), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) loops.mean(x + i * s.pixels() * B, s.pixels(), y + i * B);
  });
}

template <class T>
void blocked_affine(const BlockedShape& s, const T* x, const T* a, bool a_per_image, const T* b,
                    const Finish<T>& finish, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const Limits<T> limits(finish);
  const index_t B = block_lanes<T>(), blocks = ceil_div(s.channels, B);
  const Scratch<T> zero(B);
  std::fill_n(zero.data(), B, T(0));
  for_bands(s.images * blocks, s.height, s.width * B / 4,
            [&](index_t plane, index_t first, index_t last) {
              const index_t offset = (plane * s.height + first) * s.width * B;
              const index_t pixels = (last - first) * s.width;
              loops.affine(
                  x + offset, a + (a_per_image ? plane : plane % blocks) * B,
                  {finish.residual != nullptr ? finish.residual + offset : nullptr,
                   b != nullptr ? b + plane % blocks * B : zero.data(), limits.low, limits.high},
                  y + offset, pixels);
              if (limits.curve) finish_run<T>(finish, nullptr, y + offset, pixels * B);
            });
}

template <class T>
void blocked_select(const BlockedShape& s, const std::vector<index_t>& rows,
                    const std::vector<index_t>& columns, const T* x, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const index_t B = block_lanes<T>();
  const auto out_height = static_cast<index_t>(rows.size());
  const auto out_width = static_cast<index_t>(columns.size());
  for_bands(s.images * ceil_div(s.channels, B), out_height, out_width * B / 4,
            [&](index_t plane, index_t first, index_t last) {
              for (index_t i = first; i < last; ++i)
                loops.copy_pixels(
                    x + (plane * s.height + rows[static_cast<std::size_t>(i)]) * s.width * B,
                    columns.data(), out_width, y + (plane * out_height + i) * out_width * B);
            });
}

#define CNNCORE_INSTANTIATE(T)                                                             \
  template void to_blocked(const BlockedShape&, const T*, T*);                             \
  template void from_blocked(const BlockedShape&, const T*, T*);                           \
  template void blocked_pool(const BlockedShape&, const Window2d&, index_t, index_t, bool, \
                             index_t, const T*, T*);                                       \
  template void blocked_mean(const BlockedShape&, const T*, T*);                           \
  template void blocked_affine(const BlockedShape&, const T*, const T*, bool, const T*,    \
                               const Finish<T>&, T*);                                      \
  template void blocked_select(const BlockedShape&, const std::vector<index_t>&,           \
                               const std::vector<index_t>&, const T*, T*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
