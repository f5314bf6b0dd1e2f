// Resampling with channels side by side.
//
// RoI Align reads about 4 x 4 pixels for each of its outputs, scattered along the row: gathers, if
// the lanes of a vector are pixels. So the planes are turned once, into blocks of 16 channels
//
//   xb[n, C/16, h, w, 16]
//
// in which every tap is one whole vector, and the 16 x (PH · PW) results of a region are turned
// back in the first-level cache. The turn costs one pass over x and is paid for by the regions. The
// same form serves pooling and interpolation, where every image is its own region.
#include "cpu/resample_block.h"

#include <cstring>

#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"
#include "cpu/isa/resample_block.h"
#include "cpu/tile.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void resample_block_loop(
    const BlockPair<T>& pair, const AxisGroup<T>& rows, const AxisGroup<T>& cols, T* line))

namespace {

// `channels` planes of `pixels` as blocks, the missing channels of the last block zero.
template <class T>
void to_block(const TileKernels<T>& kernels, const T* planes, index_t channels, index_t pixels,
              T* block) {
  if (channels < kChannelBlock)
    std::memset(block, 0, static_cast<std::size_t>(pixels * kChannelBlock) * sizeof(T));
  kernels.transpose(planes, pixels, channels, pixels, block, kChannelBlock, nullptr);
}

template <class T>
void from_block(const TileKernels<T>& kernels, const T* block, index_t channels, index_t pixels,
                T* planes) {
  kernels.transpose(block, kChannelBlock, pixels, channels, planes, pixels, nullptr);
}

}  // namespace

bool worth_blocks(index_t images, index_t channels, index_t pixels, index_t regions,
                  index_t outputs) {
  return channels >= kChannelBlock && regions * outputs * 2 >= images * pixels;
}

// Every image its own region: a task turns what it reads itself.
template <class T>
void resample_images(ArrayView<const T> x, const Axis<T>& rows, const Axis<T>& cols,
                     ArrayView<T> y) {
  const index_t channels = x[1], pixels = x[2] * x[3], outputs = y[2] * y[3];
  const index_t blocks = ceil_div(channels, kChannelBlock);
  const TileKernels<T>& kernels = tile_kernels<T>();
  const auto loop = CNNCORE_SELECT_ISA(resample_block_loop<T>);
  const index_t work = (pixels + outputs) * kChannelBlock;
  parallel_for(y[0] * blocks, grain_for(work), [&](index_t first, index_t last) {
    const Scratch<T> line(cols.line() * kChannelBlock), out(outputs * kChannelBlock);
    const Scratch<T> in(pixels * kChannelBlock);
    for (index_t task = first; task < last; ++task) {
      const index_t b = task % blocks, n = task / blocks,
                    channel = n * channels + b * kChannelBlock;
      const index_t count = min_of(kChannelBlock, channels - b * kChannelBlock);
      to_block(kernels, x.data + channel * pixels, count, pixels, in.data());
      loop({in.data(), x[3], out.data(), y[3], false}, rows.group_of(n), cols.group_of(n),
           line.data());
      from_block(kernels, out.data(), count, outputs, y.data + channel * outputs);
    }
  });
}

template <class T>
void resample_blocks(ArrayView<const T> x, const ArrayView<const std::int64_t>& image,
                     const Axis<T>& rows, const Axis<T>& cols, index_t work, ArrayView<T> y) {
  if (image.data == nullptr) return resample_images(x, rows, cols, y);
  const index_t images = x[0], channels = x[1], pixels = x[2] * x[3];
  const index_t blocks = ceil_div(channels, kChannelBlock), outputs = y[2] * y[3];
  const TileKernels<T>& kernels = tile_kernels<T>();
  const auto loop = CNNCORE_SELECT_ISA(resample_block_loop<T>);
  const Scratch<T> turned(checked_product(images * blocks * kChannelBlock, pixels));
  const auto channels_of = [&](index_t b) {
    return min_of(kChannelBlock, channels - b * kChannelBlock);
  };
  parallel_for(
      images * blocks, grain_for(pixels * kChannelBlock), [&](index_t first, index_t last) {
        for (index_t task = first; task < last; ++task) {
          const index_t b = task % blocks, channel = task / blocks * channels + b * kChannelBlock;
          to_block(kernels, x.data + channel * pixels, channels_of(b), pixels,
                   turned.data() + task * kChannelBlock * pixels);
        }
      });
  // The regions of one block one after the other: they read the same planes.
  parallel_for(y[0] * blocks, grain_for(work * kChannelBlock), [&](index_t first, index_t last) {
    const Scratch<T> line(cols.line() * kChannelBlock), out(outputs * kChannelBlock);
    for (index_t task = first; task < last; ++task) {
      const index_t b = task / y[0], r = task % y[0];
      const T* const from =
          turned.data() + (image_of(image, r) * blocks + b) * kChannelBlock * pixels;
      loop({from, x[3], out.data(), y[3], false}, rows.group_of(r), cols.group_of(r), line.data());
      from_block(kernels, out.data(), channels_of(b), outputs,
                 y.data + (r * channels + b * kChannelBlock) * outputs);
    }
  });
}

template <class T>
void resample_blocks_adjoint(ArrayView<const T> gy, const RegionLists& regions, const Axis<T>& rows,
                             const Axis<T>& cols, ArrayView<T> gx) {
  const index_t channels = gx[1], pixels = gx[2] * gx[3], outputs = gy[2] * gy[3];
  const index_t blocks = ceil_div(channels, kChannelBlock);
  const TileKernels<T>& kernels = tile_kernels<T>();
  const auto loop = CNNCORE_SELECT_ISA(resample_block_loop<T>);
  parallel_for(gx[0] * blocks, 1, [&](index_t task, index_t) {
    const index_t b = task % blocks, image = task / blocks;
    const index_t count = min_of(kChannelBlock, channels - b * kChannelBlock);
    const Scratch<T> line(cols.line() * kChannelBlock), in(outputs * kChannelBlock);
    const Scratch<T> sum(pixels * kChannelBlock);
    std::memset(sum.data(), 0, static_cast<std::size_t>(pixels * kChannelBlock) * sizeof(T));
    regions.each(image, [&](index_t r) {
      to_block(kernels, gy.data + (r * channels + b * kChannelBlock) * outputs, count, outputs,
               in.data());
      loop({in.data(), gy[3], sum.data(), gx[3], true}, rows.group_of(r), cols.group_of(r),
           line.data());
    });
    from_block(kernels, sum.data(), count, pixels,
               gx.data + (image * channels + b * kChannelBlock) * pixels);
  });
}

#define CNNCORE_INSTANTIATE(T)                                                                  \
  template void resample_blocks(ArrayView<const T>, const ArrayView<const std::int64_t>&,       \
                                const Axis<T>&, const Axis<T>&, index_t, ArrayView<T>);         \
  template void resample_blocks_adjoint(ArrayView<const T>, const RegionLists&, const Axis<T>&, \
                                        const Axis<T>&, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
