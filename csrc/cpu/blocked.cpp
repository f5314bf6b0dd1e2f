#include "cpu/blocked.h"

#include <algorithm>
#include <limits>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/conv/panels.h"
#include "cpu/gemm.h"
#include "cpu/isa/blocked.h"
#include "cpu/planes.h"
#include "cpu/tile.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;                // as many tasks as this where the shape allows it
constexpr index_t kSourceBytes = 256 << 10;  // of what a task reads, in the second-level cache
constexpr index_t kDepthBlock = 4608;        // products between two visits of the target
constexpr index_t kChunkWork = 500000;       // products worth handing to another thread

// What the store can do of a finish, and whether a curve is left to be applied.
template <class T>
struct Limits {
  T low = -std::numeric_limits<T>::infinity(), high = std::numeric_limits<T>::infinity();
  bool curve = false;

  explicit Limits(const Finish<T>& finish) {
    if (finish.activation == kNoActivation) return;
    switch (static_cast<Activation>(finish.activation)) {
      case Activation::relu:
        low = 0;
        break;
      case Activation::relu6:
        low = 0;
        high = 6;
        break;
      case Activation::hardtanh:
        low = finish.p;
        high = finish.q;
        break;
      default:
        curve = true;
    }
  }
};

// One correlation of blocked (or planar) planes with packed weights, as in correlate.h.
template <class T>
struct Job {
  const T* source;
  index_t pixel;  // elements of a pixel: lanes of a block, or 1 for planes
  index_t images, channels, height, width, image_stride;
  AxisTaps h, w;
  index_t grid_h, grid_w;
  const T* panels;
  index_t outputs;
  const T* bias;  // padded to whole panels
  index_t target, target_image_stride, target_block_stride, row_step, column_step;  // in elements

  index_t block_stride() const { return height * width * pixel; }
  index_t taps() const { return h.taps() * w.taps(); }
  // Where channel c of pixel 0 is, with `block` elements between blocks.
  index_t channel_offset(index_t c, index_t block) const { return c / pixel * block + c % pixel; }
};

template <class T>
struct Plan {
  const Job<T>& job;
  bool direct;  // read the source in place
  PixelBlocks blocks;
  index_t row_pitch, block_pitch, image_pitch;  // of the copy, or of the source itself, in elements
  index_t panels, panels_per_task, panel_groups;
  std::vector<index_t> depth;

  Plan(const Job<T>& job_, const TileKernels<T>& kernels, index_t siblings)
      : job(job_),
        direct(job.h.inside(job.grid_h, job.height) && job.w.inside(job.grid_w, job.width)),
        blocks(job.images, job.grid_h, job.grid_w, wanted_pixels(kernels)) {
    const index_t rows = direct ? job.height : local_rows(),
                  columns = direct ? job.width : local_columns();
    row_pitch = columns * job.pixel;
    block_pitch = checked_product(rows, row_pitch);
    const index_t channel_blocks = ceil_div(job.channels, job.pixel);
    image_pitch = direct ? job.image_stride : checked_product(channel_blocks, block_pitch);
    panels = kernels.panels(job.outputs);
    panel_groups = min_of(panels, ceil_div(kTasks, blocks.count() * siblings));
    panels_per_task = ceil_div(panels, max_of(1, panel_groups));
    panel_groups = ceil_div(panels, max_of(1, panels_per_task));
    depth.reserve(static_cast<std::size_t>(job.channels * job.taps()));
    for (index_t c = 0; c < job.channels; ++c)
      for (index_t i : job.h.shift)
        for (index_t j : job.w.shift)
          depth.push_back(job.channel_offset(c, block_pitch) + (i - job.h.lowest()) * row_pitch +
                          (j - job.w.lowest()) * job.pixel);
  }

  index_t local_rows() const { return (blocks.band - 1) * job.h.step + span(job.h) + 1; }
  index_t local_columns() const { return (job.grid_w - 1) * job.w.step + span(job.w) + 1; }
  index_t local_size() const { return direct ? 0 : blocks.images_per_block * image_pitch; }
  index_t tasks() const { return blocks.count() * panel_groups; }

  static index_t span(const AxisTaps& axis) { return axis.highest() - axis.lowest(); }

 private:
  index_t wanted_pixels(const TileKernels<T>& kernels) const {
    const index_t bytes = static_cast<index_t>(sizeof(T)) * round_up(job.channels, job.pixel) *
                          job.h.step * job.w.step;
    return max_of(4 * kernels.rows, kSourceBytes / max_of(1, bytes));
  }
};

// The rows of the source that a block needs, with zeros around it.
template <class T>
void copy_block(const Plan<T>& plan, const PixelBlocks::Block& block, T* local) {
  const Job<T>& job = plan.job;
  const index_t top = block.row * job.h.step + job.h.lowest(), left = job.w.lowest();
  const index_t rows = (block.rows - 1) * job.h.step + Plan<T>::span(job.h) + 1;
  const index_t columns = plan.local_columns();
  const index_t begin = min_of(columns, max_of(0, -left));
  const index_t end = max_of(begin, min_of(columns, job.width - left));
  for (index_t n = 0; n < block.images; ++n)
    for (index_t c = 0; c < ceil_div(job.channels, job.pixel); ++c) {
      const T* const plane =
          job.source + (block.image + n) * job.image_stride + c * job.block_stride();
      T* to = local + n * plan.image_pitch + c * plan.block_pitch;
      for (index_t r = 0; r < rows; ++r, to += plan.row_pitch) {
        const index_t row = top + r;
        if (row < 0 || row >= job.height) {
          std::fill_n(to, plan.row_pitch, T(0));
          continue;
        }
        std::fill_n(to, begin * job.pixel, T(0));
        std::copy_n(plane + (row * job.width + left + begin) * job.pixel, (end - begin) * job.pixel,
                    to + begin * job.pixel);
        std::fill_n(to + end * job.pixel, (columns - end) * job.pixel, T(0));
      }
    }
}

template <class T>
void run_task(const TileKernels<T>& kernels, const Plan<T>& plan, const Finish<T>& finish,
              T* target, index_t task) {
  const Job<T>& job = plan.job;
  const PixelBlocks::Block block = plan.blocks.block(task / plan.panel_groups);
  const index_t first = task % plan.panel_groups * plan.panels_per_task;
  const index_t last = min_of(plan.panels, first + plan.panels_per_task);
  const index_t pixels = block.images * block.rows * job.grid_w;
  const index_t lanes = kernels.width, columns = kernels.panel_columns();
  const Limits<T> limits(finish);

  Scratch<T> local(plan.local_size());
  Scratch<index_t> tables(2 * pixels);
  index_t *row = tables.data(), *place = row + pixels;
  for (index_t n = 0; n < block.images; ++n)
    for (index_t u = 0; u < block.rows; ++u)
      for (index_t v = 0; v < job.grid_w; ++v) {
        *row++ =
            n * plan.image_pitch + u * job.h.step * plan.row_pitch + v * job.w.step * job.pixel;
        *place++ = (block.image + n) * job.target_image_stride + (block.row + u) * job.row_step +
                   v * job.column_step;
      }
  const T* source = local.data();
  if (plan.direct)
    source = job.source + block.image * job.image_stride +
             ((block.row * job.h.step + job.h.lowest()) * job.width + job.w.lowest()) * job.pixel;
  else
    copy_block(plan, block, local.data());

  const auto depth = static_cast<index_t>(plan.depth.size());
  const index_t pieces = max_of(1, ceil_div(depth, kDepthBlock));
  for (index_t piece = 0; piece < pieces; ++piece) {
    const index_t begin = depth * piece / pieces, end = depth * (piece + 1) / pieces;
    for (index_t p = first; p < last; ++p) {
      const index_t width = kernels.lanes(p, job.outputs);
      const index_t offset = job.target + 2 * p * job.target_block_stride;
      const TileArgs<T> args{source,
                             tables.data(),
                             plan.depth.data() + begin,
                             end - begin,
                             job.panels + p * columns * depth + begin * width,
                             nullptr,
                             0,
                             false};
      const StoreArgs<T> store{target + offset,
                               finish.residual != nullptr ? finish.residual + offset : nullptr,
                               job.bias + p * columns,
                               tables.data() + pixels,
                               job.target_block_stride,
                               limits.low,
                               limits.high,
                               piece > 0,
                               piece + 1 == pieces};
      run_tiles(kernels, args, store, pixels, width);
      if (!limits.curve || piece + 1 < pieces) continue;
      for (index_t b = 0; b < width / lanes; ++b)  // while it is in the cache
        for (index_t n = 0; n < block.images; ++n)
          for (index_t u = 0; u < block.rows; ++u) {
            const index_t line = tables[pixels + (n * block.rows + u) * job.grid_w];
            T* const to = target + offset + b * job.target_block_stride + line;
            if (job.column_step == lanes) {
              finish_run<T>(finish, nullptr, to, job.grid_w * lanes);
            } else {
              for (index_t v = 0; v < job.grid_w; ++v)
                finish_run<T>(finish, nullptr, to + v * job.column_step, lanes);
            }
          }
    }
  }
}

template <class T>
void run_jobs(const std::vector<Job<T>>& jobs, const Finish<T>& finish, T* target) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  std::vector<Plan<T>> plans;
  std::vector<index_t> start{0};
  plans.reserve(jobs.size());
  for (const Job<T>& job : jobs) {
    if (job.images * job.grid_h * job.grid_w * job.outputs == 0) continue;
    plans.emplace_back(job, kernels, static_cast<index_t>(jobs.size()));
    start.push_back(start.back() + plans.back().tasks());
  }
  if (plans.empty()) return;
  index_t work = 0;
  for (const Plan<T>& plan : plans)
    work = max_of(work, plan.blocks.pixels() * static_cast<index_t>(plan.depth.size()) *
                            plan.panels_per_task * kernels.panel_columns());
  parallel_for(
      start.back(), max_of(1, kChunkWork / max_of(1, work)), [&](index_t begin, index_t end) {
        for (index_t task = begin; task < end; ++task) {
          const auto job = std::upper_bound(start.begin(), start.end(), task) - start.begin() - 1;
          run_task(kernels, plans[static_cast<std::size_t>(job)], finish, target,
                   task - start[static_cast<std::size_t>(job)]);
        }
      });
}

// Adds a block's rows of results to the tasks: f(image and block, first row, last row).
template <class Function>
void for_bands(index_t planes, index_t rows, index_t row_work, Function f) {
  const index_t band = max_of(1, min_of(rows, grain_for(row_work)));
  const index_t bands = ceil_div(rows, band);
  parallel_for(planes * bands, max_of(1, grain_for(row_work) / band),
               [&](index_t begin, index_t end) {
                 for (index_t task = begin; task < end; ++task) {
                   const index_t first = task % bands * band;
                   f(task / bands, first, min_of(rows, first + band));
                 }
               });
}

template <class T>
void run_depthwise(const ConvShape& s, const T* x, const T* weight, const T* bias,
                   const Finish<T>& finish, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const Limits<T> limits(finish);
  const index_t B = block_lanes<T>(), blocks = ceil_div(s.channels, B), oh = s.oh(), ow = s.ow();
  for_bands(s.images * blocks, oh, ow * B * s.taps() / 4,
            [&](index_t plane, index_t first, index_t last) {
              const index_t offset = (plane * oh + first) * ow * B, block = plane % blocks;
              loops.depthwise({s.window, s.height, s.width, ow, first, last,
                               x + plane * s.height * s.width * B, y + offset},
                              {finish.residual != nullptr ? finish.residual + offset : nullptr,
                               bias + block * B, limits.low, limits.high},
                              weight + block * s.taps() * B);
              if (limits.curve) finish_run<T>(finish, nullptr, y + offset, (last - first) * ow * B);
            });
}

}  // namespace

template <class T>
index_t block_lanes() {
  return tile_kernels<T>().width;
}

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

// --- convolutions --------------------------------------------------------------------------------

template <class T>
bool BlockedConvolution<T>::serves(const ConvShape& s, bool transposed, bool planar_source) {
  if (s.groups == 1) return true;
  if (planar_source) return false;
  if (!transposed && s.groups == s.channels && s.outputs == s.channels) return true;
  const index_t B = block_lanes<T>();
  return s.group_channels() % (2 * B) == 0 && s.group_outputs() % (2 * B) == 0;
}

template <class T>
BlockedConvolution<T>::BlockedConvolution(const ConvShape& shape, bool transposed,
                                          bool planar_source, const T* weight, const T* bias)
    : s_(shape), transposed_(transposed), planar_(planar_source) {
  CNNCORE_REQUIRE(serves(shape, transposed, planar_source), "groups",
                  "one group, groups of whole blocks, or as many as channels", shape.groups);
  depthwise_ = s_.groups > 1 && s_.group_channels() == 1 && s_.group_outputs() == 1;
  const index_t results = transposed ? s_.channels : s_.outputs, B = block_lanes<T>();
  bias_.reset(new Scratch<T>(round_up(results, 2 * B) * max_of(1, depthwise_ ? 1 : s_.groups)));
  std::fill_n(bias_->data(), round_up(results, 2 * B), T(0));
  if (bias != nullptr) std::copy_n(bias, results, bias_->data());
  if (depthwise_) {
    const index_t blocks = ceil_div(s_.channels, B);
    packed_.reset(new Scratch<T>(blocks * s_.taps() * B));
    std::fill_n(packed_->data(), blocks * s_.taps() * B, T(0));
    for (index_t c = 0; c < s_.channels; ++c)
      for (index_t t = 0; t < s_.taps(); ++t)
        (*packed_)[(c / B * s_.taps() + t) * B + c % B] = weight[c * s_.taps() + t];
  } else {
    packed_.reset(
        new Scratch<T>(transposed ? transpose_panels_size<T>(s_) : forward_panels_size<T>(s_)));
    (transposed ? pack_transpose<T> : pack_forward<T>)(s_, weight, packed_->data());
  }
}

template <class T>
BlockedShape BlockedConvolution<T>::source() const {
  if (transposed_) return {s_.images, s_.outputs, s_.oh(), s_.ow()};
  return {s_.images, s_.channels, s_.height, s_.width};
}

template <class T>
BlockedShape BlockedConvolution<T>::target() const {
  if (transposed_) return {s_.images, s_.channels, s_.height, s_.width};
  return {s_.images, s_.outputs, s_.oh(), s_.ow()};
}

template <class T>
void BlockedConvolution<T>::run(const T* from, const Finish<T>& finish, T* to) const {
  const index_t B = block_lanes<T>();
  if (depthwise_) {
    run_depthwise(s_, from, packed_->data(), bias_->data(), finish, to);
    return;
  }
  const BlockedShape in = source(), out = target();
  const index_t pixel = planar_ ? 1 : B, group_in = in.channels / s_.groups;
  const index_t group_out = out.channels / s_.groups;
  Job<T> job{};
  job.pixel = pixel;
  job.images = in.images;
  job.channels = group_in;
  job.height = in.height;
  job.width = in.width;
  job.image_stride = round_up(in.channels, pixel) * in.pixels();
  job.outputs = group_out;
  job.target_image_stride = round_up(out.channels, B) * out.pixels();
  job.target_block_stride = out.pixels() * B;
  std::vector<Job<T>> jobs;
  for (index_t g = 0; g < s_.groups; ++g) {
    job.source = from + g * group_in * in.pixels();
    job.bias = bias_->data() + g * group_out;
    const index_t target = g * group_out * out.pixels();
    if (!transposed_) {
      job.h = forward_taps(s_.window.h);
      job.w = forward_taps(s_.window.w);
      job.grid_h = out.height;
      job.grid_w = out.width;
      job.panels = packed_->data() + g * (forward_panels_size<T>(s_) / s_.groups);
      job.target = target;
      job.row_step = out.width * B;
      job.column_step = B;
      jobs.push_back(job);
      continue;
    }
    const T* packed = packed_->data() + g * transpose_group_size<T>(s_);
    for (const Phase& h : phases_of(s_.window.h, s_.height))
      for (const Phase& w : phases_of(s_.window.w, s_.width)) {
        job.h = h.taps;
        job.w = w.taps;
        job.grid_h = h.count;
        job.grid_w = w.count;
        job.panels = packed;
        job.target = target + (h.first * out.width + w.first) * B;
        job.row_step = s_.window.h.stride * out.width * B;
        job.column_step = s_.window.w.stride * B;
        packed += packed_size(tile_kernels<T>(), group_in * job.taps(), group_out);
        jobs.push_back(job);
      }
  }
  run_jobs(jobs, finish, to);
}

// --- the other layers ----------------------------------------------------------------------------

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
  template index_t block_lanes<T>();                                                       \
  template void to_blocked(const BlockedShape&, const T*, T*);                             \
  template void from_blocked(const BlockedShape&, const T*, T*);                           \
  template class BlockedConvolution<T>;                                                    \
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
