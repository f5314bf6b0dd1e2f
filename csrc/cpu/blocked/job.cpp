#include "cpu/blocked/job.h"

#include <algorithm>
#include <limits>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/isa/blocked.h"
#include "cpu/tile.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;                // as many tasks as this where the shape allows it
constexpr index_t kSourceBytes = 256 << 10;  // of what a task reads, in the second-level cache
constexpr index_t kDepthBlock = 4608;        // products between two visits of the target
constexpr index_t kChunkWork = 500000;       // products worth handing to another thread

template <class T>
struct Plan {
  const BlockedJob<T>& job;
  bool direct;  // read the source in place
  PixelBlocks blocks;
  index_t row_pitch, block_pitch, image_pitch;  // of the copy, or of the source itself, in elements
  index_t panels, panels_per_task, panel_groups;
  std::vector<index_t> depth;

  Plan(const BlockedJob<T>& job_, const TileKernels<T>& kernels, index_t siblings)
      : job(job_),
        direct(job.scale == nullptr && job.h.inside(job.grid_h, job.height) &&
               job.w.inside(job.grid_w, job.width)),
        blocks(job.images, job.grid_h, job.grid_w, wanted_pixels(kernels)) {
    const index_t rows = direct ? job.height : local_rows(),
                  columns = direct ? job.width : local_columns();
    row_pitch = columns * job.pixel;
    block_pitch = checked_product(rows, row_pitch);
    const index_t channel_blocks = ceil_div(job.channels, job.pixel);
    image_pitch = direct ? job.image_stride : checked_product(channel_blocks, block_pitch);
    panels = kernels.panels(job.outputs);
    // Where nothing is copied, tasks may be small: a few more are shared more evenly.
    const index_t wanted = direct ? 2 * kTasks : kTasks;
    panel_groups = min_of(panels, ceil_div(wanted, blocks.count() * siblings));
    panels_per_task = direct ? max_of(1, panels / max_of(1, panel_groups))
                             : ceil_div(panels, max_of(1, panel_groups));
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
    // Few panels and few pixels: more blocks, so that there are tasks enough.
    const index_t all = job.images * job.grid_h * job.grid_w;
    const index_t share = ceil_div(all * kernels.panels(job.outputs), kTasks);
    const index_t bytes = static_cast<index_t>(sizeof(T)) * round_up(job.channels, job.pixel) *
                          job.h.step * job.w.step;
    return max_of(2 * kernels.rows, min_of(share, kSourceBytes / max_of(1, bytes)));
  }
};

// Pixels of one block of channels; `scale` is one vector, or null.
template <class T>
void copy_pixels(const T* from, index_t pixels, index_t pixel, const T* scale, T* to) {
  if (scale == nullptr) {
    std::copy_n(from, pixels * pixel, to);
    return;
  }
  static const T zeros[64 / sizeof(T)] = {};
  constexpr T infinity = std::numeric_limits<T>::infinity();
  blocked_loops<T>().affine(from, scale, {nullptr, zeros, -infinity, infinity}, to, pixels);
}

// The rows of the source that a block needs, with zeros around it.
template <class T>
void copy_block(const Plan<T>& plan, const PixelBlocks::Block& block, T* local) {
  const BlockedJob<T>& job = plan.job;
  const index_t top = block.row * job.h.step + job.h.lowest(), left = job.w.lowest();
  const index_t rows = (block.rows - 1) * job.h.step + Plan<T>::span(job.h) + 1;
  const index_t columns = plan.local_columns(), blocks = ceil_div(job.channels, job.pixel);
  const index_t begin = min_of(columns, max_of(0, -left));
  const index_t end = max_of(begin, min_of(columns, job.width - left));
  const bool whole = left == 0 && columns == job.width && top >= 0 && top + rows <= job.height;
  for (index_t n = 0; n < block.images; ++n)
    for (index_t c = 0; c < blocks; ++c) {
      const T* const plane =
          job.source + (block.image + n) * job.image_stride + c * job.block_stride();
      const T* const scale =
          job.scale != nullptr ? job.scale + ((block.image + n) * blocks + c) * job.pixel : nullptr;
      T* to = local + n * plan.image_pitch + c * plan.block_pitch;
      if (whole) {
        copy_pixels(plane + top * plan.row_pitch, rows * columns, job.pixel, scale, to);
        continue;
      }
      for (index_t r = 0; r < rows; ++r, to += plan.row_pitch) {
        const index_t row = top + r;
        if (row < 0 || row >= job.height) {
          std::fill_n(to, plan.row_pitch, T(0));
          continue;
        }
        std::fill_n(to, begin * job.pixel, T(0));
        copy_pixels(plane + (row * job.width + left + begin) * job.pixel, end - begin, job.pixel,
                    scale, to + begin * job.pixel);
        std::fill_n(to + end * job.pixel, (columns - end) * job.pixel, T(0));
      }
    }
}

template <class T>
void run_task(const TileKernels<T>& kernels, const Plan<T>& plan, const Finish<T>& finish,
              T* target, index_t task) {
  const BlockedJob<T>& job = plan.job;
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

}  // namespace

template <class T>
void run_jobs(const std::vector<BlockedJob<T>>& jobs, const Finish<T>& finish, T* target) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  std::vector<Plan<T>> plans;
  std::vector<index_t> start{0};
  plans.reserve(jobs.size());
  for (const BlockedJob<T>& job : jobs) {
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

template void run_jobs(const std::vector<BlockedJob<float>>&, const Finish<float>&, float*);
template void run_jobs(const std::vector<BlockedJob<double>>&, const Finish<double>&, double*);

}  // namespace cnncore
