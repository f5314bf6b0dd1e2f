// Weight gradient as an implicit matrix product: rows are (c, kh, kw), depth is pixels, columns are
// output channels. The pixels are summed in a fixed number of splits, which are then added in
// order. x is broadcast, from where it lies if no tap leaves it; gy is transposed into panels.
#include "cpu/conv/correlate_weight.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/planes.h"
#include "cpu/tile.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;     // as many tasks as this where the shape allows it
constexpr index_t kPixels = 448;  // of one block
constexpr index_t kRows = 336;    // (c, kh, kw) of one task
constexpr index_t kLocalBytes = 192 << 10;
constexpr index_t kChunkWork = 500000;  // products worth handing to another thread

AxisTaps axis_taps(const Window1d& window) {
  AxisTaps axis;
  axis.step = window.stride;
  for (index_t k = 0; k < window.kernel; ++k) axis.shift.push_back(window.input(0, k));
  return axis;
}

bool is_pointwise(const ConvShape& s) {
  return s.taps() == 1 && s.window.h.stride == 1 && s.window.w.stride == 1 && s.oh() == s.height &&
         s.ow() == s.width && s.window.h.before == 0 && s.window.w.before == 0;
}

template <class T>
class WeightGradient {
 public:
  // swapped: gweight is (C, O/G, KH, KW).
  WeightGradient(const ConvShape& shape, const T* x, const T* gy, T* gweight, bool swapped)
      : kernels_(tile_kernels<T>()),
        s_(shape),
        x_(x),
        gy_(gy),
        gweight_(gweight),
        swapped_(swapped),
        h_(axis_taps(shape.window.h)),
        w_(axis_taps(shape.window.w)),
        blocks_(shape.images, shape.oh(), shape.ow(), kPixels),
        panels_(kernels_.panels(shape.group_outputs())) {
    const index_t channels = s_.group_channels(), plane = s_.height * s_.width;
    const index_t bytes = static_cast<index_t>(sizeof(T));
    // Planes whose size is a multiple of 1 KB would fight for cache lines: copy those.
    in_place_ = h_.inside(s_.oh(), s_.height) && w_.inside(s_.ow(), s_.width) &&
                (channels < 8 || plane * bytes % 1024 != 0);
    row_pitch_ = in_place_ ? s_.width : w_.extent(s_.ow());
    const index_t copied = checked_product(h_.extent(blocks_.band), w_.extent(s_.ow()));
    pitch_ = in_place_ ? plane : channel_pitch<T>(copied);
    index_t block = max_of(1, min_of(channels, kRows / s_.taps()));
    // What is read in place is nobody's second copy: there is room for more.
    const index_t room = (in_place_ ? 2 : 1) * kLocalBytes;
    block = min_of(block, max_of(1, room / (bytes * copied * blocks_.images_per_block)));
    channel_blocks_ = ceil_div(channels, block);
    channel_block_ = ceil_div(channels, channel_blocks_);
    channel_blocks_ = ceil_div(channels, channel_block_);
    splits_ = min_of(blocks_.count(), ceil_div(kTasks, channel_blocks_ * s_.groups));
    image_pitch_ = in_place_ ? s_.channels * plane : channel_block_ * pitch_;
    rows_ = channels * s_.taps();
    sums_size_ = packed_columns() * rows_;
    for (index_t c = 0; c < channel_block_; ++c)
      for (index_t i : h_.shift)
        for (index_t j : w_.shift)
          row_.push_back(c * pitch_ + (i - h_.lowest()) * row_pitch_ + (j - w_.lowest()));
  }

  void run() {
    Scratch<T> sums(checked_product(s_.groups, splits_, sums_size_));
    const index_t work = blocks_.count() / splits_ * blocks_.pixels() * channel_block_ * s_.taps() *
                         packed_columns();
    parallel_for(s_.groups * splits_ * channel_blocks_, max_of(1, kChunkWork / max_of(1, work)),
                 [&](index_t begin, index_t end) {
                   for (index_t task = begin; task < end; ++task) accumulate(task, sums.data());
                 });
    parallel_for(s_.groups * panels_, grain_for(splits_ * rows_ * kernels_.panel_columns()),
                 [&](index_t begin, index_t end) {
                   for (index_t i = begin; i < end; ++i) combine(i, sums.data());
                 });
  }

 private:
  index_t packed_columns() const { return kernels_.padded(s_.group_outputs()); }

  // One channel block of one group over one split of the pixels.
  void accumulate(index_t task, T* sums) const {
    const index_t group = task / (splits_ * channel_blocks_);
    const index_t split = task / channel_blocks_ % splits_;
    const index_t first = task % channel_blocks_ * channel_block_;
    const index_t channels = min_of(channel_block_, s_.group_channels() - first);
    T* const target = sums + (group * splits_ + split) * sums_size_;
    Scratch<T> local(in_place_ ? 0 : blocks_.images_per_block * image_pitch_);
    Scratch<T> panel(blocks_.pixels() * kernels_.panel_columns());
    Scratch<index_t> depth(blocks_.pixels());
    const index_t begin = blocks_.count() * split / splits_;
    const index_t end = blocks_.count() * (split + 1) / splits_;
    for (index_t index = begin; index < end; ++index) {
      const PixelBlocks::Block block = blocks_.block(index);
      const T* source = local.data();
      if (in_place_)
        source = x_ + block.image * image_pitch_ + (group * s_.group_channels() + first) * pitch_ +
                 (block.row * h_.step + h_.lowest()) * row_pitch_ + w_.lowest();
      else
        copy_source(block, group * s_.group_channels() + first, channels, local.data());
      const index_t pixels = fill_depth(block, depth.data());
      for (index_t p = 0; p < panels_; ++p) {
        const index_t lanes = kernels_.lanes(p, s_.group_outputs());
        pack_outputs(block, group, p, lanes, panel.data());
        T* const tile = target + p * kernels_.panel_columns() * rows_ + first * s_.taps() * lanes;
        run_tiles(kernels_,
                  TileArgs<T>{source, row_.data(), depth.data(), pixels, panel.data(), tile, lanes,
                              index > begin},
                  channels * s_.taps(), lanes);
      }
    }
  }

  void copy_source(const PixelBlocks::Block& block, index_t channel, index_t channels,
                   T* local) const {
    const index_t plane = s_.height * s_.width;
    for (index_t n = 0; n < block.images; ++n)
      copy_planes(Planes<T>{x_ + ((block.image + n) * s_.channels + channel) * plane, s_.height,
                            s_.width, plane},
                  channels, h_, block.row, block.rows, w_, s_.ow(), local + n * image_pitch_,
                  pitch_);
  }

  index_t fill_depth(const PixelBlocks::Block& block, index_t* depth) const {
    const index_t* const begin = depth;
    const index_t step_h = in_place_ ? h_.step : h_.local_step();
    const index_t step_w = in_place_ ? w_.step : w_.local_step();
    for (index_t n = 0; n < block.images; ++n)
      for (index_t u = 0; u < block.rows; ++u)
        for (index_t v = 0; v < s_.ow(); ++v)
          *depth++ = n * image_pitch_ + u * step_h * row_pitch_ + v * step_w;
    return depth - begin;
  }

  // The output gradients of a block, transposed to (pixel, output channel).
  void pack_outputs(const PixelBlocks::Block& block, index_t group, index_t p, index_t lanes,
                    T* panel) const {
    const index_t plane = s_.oh() * s_.ow(), pixels = block.rows * s_.ow();
    const index_t first = p * kernels_.panel_columns();
    const index_t columns = min_of(lanes, s_.group_outputs() - first);
    if (columns < lanes) std::fill_n(panel, block.images * pixels * lanes, T(0));
    for (index_t n = 0; n < block.images; ++n)
      kernels_.transpose(
          gy_ + ((block.image + n) * s_.outputs + group * s_.group_outputs() + first) * plane +
              block.row * s_.ow(),
          plane, columns, pixels, panel + n * pixels * lanes, lanes, nullptr);
  }

  // Adds the splits of one panel of one group and writes it to gweight (O, C/G, KH, KW).
  void combine(index_t index, T* sums) const {
    const index_t group = index / panels_, p = index % panels_;
    const index_t first = p * kernels_.panel_columns();
    const index_t lanes = kernels_.lanes(p, s_.group_outputs());
    T* const total = sums + group * splits_ * sums_size_ + first * rows_;
    for (index_t split = 1; split < splits_; ++split) {
      const T* const part = total + split * sums_size_;
      for (index_t i = 0; i < rows_ * lanes; ++i) total[i] += part[i];
    }
    const index_t columns = min_of(lanes, s_.group_outputs() - first);
    if (swapped_) {
      T* const to = gweight_ + group * rows_ * s_.group_outputs() + first;
      for (index_t r = 0; r < rows_; ++r)
        std::copy_n(total + r * lanes, columns, to + r * s_.group_outputs());
      return;
    }
    kernels_.transpose(total, lanes, rows_, columns,
                       gweight_ + (group * s_.group_outputs() + first) * rows_, rows_, nullptr);
  }

  const TileKernels<T>& kernels_;
  const ConvShape& s_;
  const T* x_;
  const T* gy_;
  T* gweight_;
  bool swapped_;
  AxisTaps h_, w_;
  PixelBlocks blocks_;
  index_t panels_;
  bool in_place_;                            // x is read where it lies, without a copy
  index_t row_pitch_, pitch_, image_pitch_;  // of the copy, or of x itself
  index_t channel_block_, channel_blocks_, splits_, rows_, sums_size_;
  std::vector<index_t> row_;
};

}  // namespace

template <class T>
void correlate_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight) {
  if (shape.images == 0 || shape.oh() == 0 || shape.ow() == 0) {
    std::fill_n(gweight, shape.outputs * shape.group_channels() * shape.taps(), T(0));
    return;
  }
  if (shape.outputs == 0 || shape.channels == 0) return;
  // One tap that sees every pixel once: x and gy may change places, and the smaller is packed. With
  // few pixels that is no work, while gweight is written in smaller pieces.
  if (is_pointwise(shape) && shape.outputs > shape.channels &&
      shape.images * shape.oh() * shape.ow() > shape.outputs) {
    ConvShape swapped = shape;
    std::swap(swapped.channels, swapped.outputs);
    WeightGradient<T>(swapped, gy, x, gweight, true).run();
    return;
  }
  WeightGradient<T>(shape, x, gy, gweight, false).run();
}

template void correlate_weight(const ConvShape&, const float*, const float*, float*);
template void correlate_weight(const ConvShape&, const double*, const double*, double*);

}  // namespace cnncore
