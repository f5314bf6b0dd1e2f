// Transposed convolutions that make each pixel a patch of its own: the kernel is as large as the
// stride, two columns wide.
//
//   x[c, u R + i, 2 v + j] = bias[c] + sum over o of weight[o, c, i, j] * y[o, u, v]
//
// with i < R and j < 2 is one matrix product: rows are (c, i, j), as they follow each other in the
// weights, columns are pixels. Seen as phases, as any other transpose with stride ("direct"
// otherwise), the same layer would read its pixels R times and pass twice over its results, to
// interleave even and odd columns. Here the micro-kernel (plane_tile.h) holds both of them and
// interleaves them as it stores.
//
// Blocking: as in direct.cpp. A task is a band of pixels of an image, copied tile by tile with all
// channels of a tile side by side, and some blocks of rows, which are outermost. Tiles that cross
// from one row of pixels into the next pass through a buffer.
#include "cpu/conv/patch_transpose.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/caches.h"
#include "cpu/conv/kept.h"
#include "cpu/plane_tile.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 16;          // as many tasks as this where the shape allows it
constexpr index_t kChunkWork = 500000;  // products worth handing to another thread

template <class T>
class PatchTranspose final : public ConvLayer<T> {
 public:
  PatchTranspose(const ConvShape& s, const T* weight, const T* bias)
      : s_(s),
        kernels_(plane_tile_kernels<T>()),
        channels_(s.group_outputs()),
        patch_rows_(s.window.h.kernel),
        pairs_(s.group_channels() * patch_rows_),
        pixels_(s.oh() * s.ow()),
        tile_(2 * kernels_.width),
        blocks_(ceil_div(pairs_, kernels_.rows / 2)),
        block_size_(channels_ * kernels_.pitch),
        packed_(checked_product(s.groups, blocks_, block_size_)),
        bias_(bias, s.channels) {
    const index_t room =
        caches().second / 2 / static_cast<index_t>(sizeof(T)) / max_of(1, channels_);
    const index_t everything = max_of(1, s.images * s.groups);
    const index_t tasks = ceil_div(kTasks, everything);
    band_ = round_up(max_of(1, min_of(room, ceil_div(pixels_, tasks))), tile_);
    bands_ = max_of(1, ceil_div(pixels_, band_));
    block_groups_ = min_of(blocks_, ceil_div(kTasks, everything * bands_));
    parallel_for(s.groups * blocks_, grain_for(2 * block_size_), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) pack(weight, i / blocks_, i % blocks_);
    });
  }

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    const index_t work = band_ * channels_ * 2 * pairs_ / max_of(1, block_groups_);
    parallel_for(s_.images * s_.groups * bands_ * block_groups_,
                 max_of(1, kChunkWork / max_of(1, work)), [&](index_t begin, index_t end) {
                   Scratch<T> local(channels_ * band_), apart(kernels_.rows * tile_);
                   for (index_t task = begin; task < end; ++task)
                     run_task(task, from, finish, to, local.data(), apart.data());
                 });
  }

  std::size_t bytes() const override { return packed_.bytes() + bias_.bytes(); }

 private:
  index_t first_pair(index_t block) const { return pairs_ * block / blocks_; }

  void pack(const T* weight, index_t group, index_t block) {
    const index_t first = first_pair(block), rows = 2 * (first_pair(block + 1) - first);
    T* to = packed_.data() + (group * blocks_ + block) * block_size_;
    for (index_t o = 0; o < channels_; ++o, to += kernels_.pitch)
      std::copy_n(weight + ((group * channels_ + o) * pairs_ + first) * 2, rows, to);
  }

  // A band of pixels of one image and group, some blocks of rows.
  void run_task(index_t task, const T* from, const Finish<T>& finish, T* to, T* local,
                T* apart) const {
    const index_t block_group = task % block_groups_;
    task /= block_groups_;
    const index_t first = task % bands_ * band_, count = min_of(band_, pixels_ - first);
    task /= bands_;  // image and group
    if (count <= 0) return;
    for (index_t o = 0; o < channels_; ++o)
      kernels_.split(from + (task * channels_ + o) * pixels_ + first, count, local + o * tile_,
                     channels_ * tile_);
    const index_t last = blocks_ * (block_group + 1) / block_groups_;
    for (index_t b = blocks_ * block_group / block_groups_; b < last; ++b)
      for (index_t p = 0; p < count; p += tile_)
        run_tile(task, b, first + p, min_of(tile_, count - p), local + p * channels_, finish, to,
                 apart);
  }

  // `count` pixels from `pixel` on, as they lie in `source`: the patches of one block of rows.
  void run_tile(index_t plane, index_t block, index_t pixel, index_t count, const T* source,
                const Finish<T>& finish, T* to, T* apart) const {
    const index_t group = plane % s_.groups, first = first_pair(block);
    const index_t pairs = first_pair(block + 1) - first, row = s_.ow();
    const bool whole = count == tile_ && pixel % row + count <= row;
    // Pair (c, i) of the pixel begins at place[…] of the image's planes.
    const index_t origin = plane * s_.group_channels() * s_.height * s_.width +
                           pixel / row * patch_rows_ * s_.width + pixel % row * 2;
    index_t place[kMaxPlaneRows / 2], buffer[kMaxPlaneRows / 2];
    T bias[kMaxPlaneRows];
    for (index_t q = 0; q < pairs; ++q) {
      const index_t c = (first + q) / patch_rows_, i = (first + q) % patch_rows_;
      place[q] = (c * s_.height + i) * s_.width;
      buffer[q] = q * 2 * tile_;
      if (bias_.data() != nullptr)
        bias[2 * q] = bias[2 * q + 1] = bias_.data()[group * s_.group_channels() + c];
    }
    kernels_.run_pairs[count > kernels_.width][pairs](
        PlaneTileArgs<T>{packed_.data() + (group * blocks_ + block) * block_size_, source, nullptr,
                         channels_, bias_.data() != nullptr ? bias : nullptr,
                         whole ? to + origin : apart, 0, tile_, source, whole ? place : buffer});
    if (whole && !finish.needed()) return;
    for (index_t q = 0; q < pairs; ++q)
      for (index_t done = 0, at = origin + place[q]; done < count;) {
        const index_t column = (pixel + done) % row, some = min_of(count - done, row - column);
        if (!whole) std::copy_n(apart + buffer[q] + 2 * done, 2 * some, to + at);
        if (finish.needed())
          finish_run(finish, finish.residual != nullptr ? finish.residual + at : nullptr, to + at,
                     2 * some);
        done += some;
        at += 2 * some + (patch_rows_ - 1) * s_.width;  // rows are twice as long as those of pixels
      }
  }

  ConvShape s_;
  const PlaneTileKernels<T>& kernels_;
  index_t channels_, patch_rows_, pairs_, pixels_, tile_, blocks_, block_size_;
  index_t band_, bands_, block_groups_;
  Kept<T> packed_, bias_;
};

}  // namespace

bool is_patch_transpose(const ConvShape& s, ConvDirection direction) {
  const auto patches = [](const Window1d& w, index_t size, index_t pixels) {
    return w.kernel == w.stride && (w.dilation == 1 || w.kernel == 1) && w.before == 0 &&
           size == pixels * w.stride;
  };
  return direction == ConvDirection::input && s.window.w.kernel == 2 &&
         patches(s.window.h, s.height, s.oh()) && patches(s.window.w, s.width, s.ow());
}

// Whole vectors of pixels of a plane; a tile that crosses rows is copied from its buffer.
double patch_transpose_steps(const ConvShape& s, index_t width) {
  const auto of = [](index_t value) { return static_cast<double>(value); };
  const double rows = of(s.channels * s.window.h.kernel * 2);
  const double vectors = rows * of(s.images * ceil_div(s.oh() * s.ow(), width));
  const double store = s.ow() % (2 * width) == 0 ? 8 : 15;
  return (1.05 * of(s.group_outputs()) + store) * vectors + 30 * of(s.weight_size()) / of(width);
}

template <class T>
std::unique_ptr<ConvLayer<T>> patch_transpose(const ConvShape& shape, const T* weight,
                                              const T* bias) {
  return std::make_unique<PatchTranspose<T>>(shape, weight, bias);
}

template std::unique_ptr<ConvLayer<float>> patch_transpose(const ConvShape&, const float*,
                                                           const float*);
template std::unique_ptr<ConvLayer<double>> patch_transpose(const ConvShape&, const double*,
                                                            const double*);

}  // namespace cnncore
