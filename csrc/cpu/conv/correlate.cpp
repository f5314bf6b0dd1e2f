// Implicit matrix product: rows are pixels, depth is (channel, tap), columns are output channels.
#include "cpu/conv/correlate.h"

#include <algorithm>

#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/caches.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;               // as many tasks as this where the shape allows it
constexpr index_t kPixels = 448;            // of one task
constexpr index_t kDepthBlock = 1152;       // channels x taps between two visits of the tile
constexpr index_t kLocalBytes = 192 << 10;  // a task's copy of its source, in the second level
constexpr index_t kChunkWork = 500000;      // products worth handing to another thread

// How one correlation is cut up. Depends on shapes only.
template <class T>
struct Plan {
  const Correlation<T>& job;
  PixelBlocks blocks;
  bool direct;               // read the source in place, without a copy
  index_t row_pitch, pitch;  // of the copy, or of the source itself
  index_t image_pitch;       // of the copy
  index_t channel_block;
  index_t panels, panels_per_task, panel_groups;
  std::vector<index_t> depth;  // offsets of (c, i, j) for one channel block

  Plan(const Correlation<T>& job_, const TileKernels<T>& kernels, index_t siblings)
      : job(job_),
        blocks(job_.images, job_.grid_h, job_.grid_w,
               min_of(kPixels, max_of(4 * kernels.rows,
                                      ceil_div(job_.images * job_.grid_h * job_.grid_w * siblings,
                                               kTasks)))) {
    const index_t taps = job.h.taps() * job.w.taps();
    const index_t bytes = static_cast<index_t>(sizeof(T));
    // Planes whose size is a multiple of 1 KB would fight for cache lines: copy those.
    direct = taps == 0 || (job.h.inside(job.grid_h, job.source.height) &&
                           job.w.inside(job.grid_w, job.source.width) &&
                           (job.channels < 8 || job.source.channel_stride * bytes % 1024 != 0));
    if (direct) {
      row_pitch = job.source.width;
      pitch = job.source.channel_stride;
      image_pitch = job.source_image_stride;
    } else {
      row_pitch = job.w.extent(job.grid_w);
      pitch = channel_pitch<T>(checked_product(job.h.extent(blocks.band), row_pitch));
      image_pitch = 0;  // known with the channel block
    }
    channel_block = max_of(1, kDepthBlock / max_of(1, taps));
    if (!direct)
      channel_block =
          min_of(channel_block, max_of(1, kLocalBytes / (bytes * pitch * blocks.images_per_block)));
    channel_block = min_of(channel_block, max_of(1, job.channels));
    channel_block =
        ceil_div(max_of(1, job.channels), ceil_div(max_of(1, job.channels), channel_block));
    if (!direct) image_pitch = checked_product(channel_block, pitch);

    panels = kernels.panels(job.outputs);
    panels_per_task =
        max_of(1, caches().second / 8 / (bytes * blocks.pixels() * kernels.panel_columns()));
    while (panels_per_task > 1 &&
           blocks.count() * siblings * ceil_div(panels, panels_per_task) < kTasks)
      panels_per_task = ceil_div(panels_per_task, 2);
    panels_per_task = min_of(panels_per_task, panels);
    panel_groups = ceil_div(panels, panels_per_task);

    depth.reserve(static_cast<std::size_t>(channel_block * taps));
    for (index_t c = 0; c < channel_block && taps > 0; ++c)
      for (index_t i : job.h.shift)
        for (index_t j : job.w.shift)
          depth.push_back(c * pitch + (i - job.h.lowest()) * row_pitch + (j - job.w.lowest()));
  }

  index_t tasks() const { return blocks.count() * panel_groups; }
  index_t local_size() const { return direct ? 0 : blocks.images_per_block * image_pitch; }
};

// Offsets of the pixels of a block from the first element that the micro-kernel is given.
template <class T>
void fill_rows(const Plan<T>& plan, const PixelBlocks::Block& block, index_t* row) {
  const Correlation<T>& job = plan.job;
  const index_t step_h = plan.direct ? job.h.step : job.h.local_step();
  const index_t step_w = plan.direct ? job.w.step : job.w.local_step();
  for (index_t n = 0; n < block.images; ++n)
    for (index_t u = 0; u < block.rows; ++u)
      for (index_t v = 0; v < job.grid_w; ++v)
        *row++ = n * plan.image_pitch + u * step_h * plan.row_pitch + v * step_w;
}

// Every `step`-th element of `to`; phases of a transpose with stride 2 are the common case.
template <class T>
void copy_apart(const T* __restrict from, index_t count, T* __restrict to, index_t step) {
  if (step == 2) {
#pragma GCC unroll 8
    for (index_t i = 0; i < count; ++i) to[2 * i] = from[i];
  } else {
    for (index_t i = 0; i < count; ++i) to[step * i] = from[i];
  }
}

// Finishes `count` results that lie `step` apart in the target but side by side in `line`.
template <class T>
void finish_line(const Finish<T>& finish, index_t offset, index_t step, T* line, index_t count) {
  if (finish.residual != nullptr)
    for (index_t i = 0; i < count; ++i) line[i] += finish.residual[offset + step * i];
  finish_run<T>(finish, nullptr, line, count);
}

// Writes a panel's tile (pixels x lanes) to the target's planes, adding the bias, and finishes it.
template <class T>
void write_panel(const TileKernels<T>& kernels, const Correlation<T>& job,
                 const PixelBlocks::Block& block, const T* tile, index_t lanes, index_t column,
                 index_t columns, T* line) {
  const T* const bias = job.bias != nullptr ? job.bias + column : nullptr;
  const Finish<T>& finish = job.finish;
  const bool whole_rows = job.target_column_stride == 1 && job.target_row_stride == job.grid_w;
  const index_t runs = whole_rows ? 1 : block.rows;
  const index_t run = block.rows * job.grid_w / max_of(1, runs);
  for (index_t n = 0; n < block.images; ++n) {
    const index_t image = (block.image + n) * job.target_image_stride +
                          column * job.target_channel_stride + block.row * job.target_row_stride;
    for (index_t u = 0; u < runs; ++u, tile += run * lanes) {
      const index_t offset = image + u * job.target_row_stride;
      T* const to = job.target + offset;
      if (job.target_column_stride == 1) {
        kernels.transpose(tile, lanes, run, columns, to, job.target_channel_stride, bias);
        for (index_t m = 0; m < columns && finish.needed(); ++m) {
          const index_t plane = m * job.target_channel_stride;
          finish_run(finish,
                     finish.residual != nullptr ? finish.residual + offset + plane : nullptr,
                     to + plane, run);
        }
        continue;
      }
      kernels.transpose(tile, lanes, run, columns, line, run, bias);
      for (index_t m = 0; m < columns; ++m) {
        const index_t plane = m * job.target_channel_stride;
        if (finish.needed())
          finish_line(finish, offset + plane, job.target_column_stride, line + m * run, run);
        copy_apart(line + m * run, run, to + plane, job.target_column_stride);
      }
    }
  }
}

template <class T>
void run_task(const TileKernels<T>& kernels, const Plan<T>& plan, index_t task) {
  const Correlation<T>& job = plan.job;
  const PixelBlocks::Block block = plan.blocks.block(task / plan.panel_groups);
  const index_t first = task % plan.panel_groups * plan.panels_per_task;
  const index_t last = min_of(plan.panels, first + plan.panels_per_task);
  const index_t pixels = block.images * block.rows * job.grid_w;
  if (pixels == 0) return;
  const index_t taps = job.h.taps() * job.w.taps(), columns = kernels.panel_columns();

  Scratch<T> local(plan.local_size()), tile((last - first) * pixels * columns);
  Scratch<T> line(job.grid_w * columns);
  Scratch<index_t> rows(pixels);
  fill_rows(plan, block, rows.data());
  const T* const source = job.source.data + block.image * job.source_image_stride;
  const T* const in_place =
      source + (block.row * job.h.step + job.h.lowest()) * job.source.width + job.w.lowest();

  index_t channel = 0;
  do {  // once even without channels, so that the tile is defined
    const index_t channels = min_of(plan.channel_block, job.channels - channel);
    const Planes<T> planes{source + channel * job.source.channel_stride, job.source.height,
                           job.source.width, job.source.channel_stride};
    for (index_t n = 0; !plan.direct && n < block.images; ++n)
      copy_planes({planes.data + n * job.source_image_stride, planes.height, planes.width,
                   planes.channel_stride},
                  channels, job.h, block.row, block.rows, job.w, job.grid_w,
                  local.data() + n * plan.image_pitch, plan.pitch);
    for (index_t p = first; p < last; ++p) {
      const index_t lanes = kernels.lanes(p, job.outputs);
      run_tiles(kernels,
                TileArgs<T>{plan.direct ? in_place + channel * plan.pitch : local.data(),
                            rows.data(), plan.depth.data(), channels * taps,
                            job.panels + p * columns * job.depth() + channel * taps * lanes,
                            tile.data() + (p - first) * pixels * columns, lanes, channel > 0},
                pixels, lanes);
    }
    channel += channels;
  } while (channel < job.channels);

  for (index_t p = first; p < last; ++p)
    write_panel(kernels, job, block, tile.data() + (p - first) * pixels * columns,
                kernels.lanes(p, job.outputs), p * columns,
                min_of(columns, job.outputs - p * columns), line.data());
}

}  // namespace

template <class T>
void correlate(const std::vector<Correlation<T>>& jobs) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  std::vector<Plan<T>> plans;
  std::vector<index_t> start{0};  // first task of each job
  plans.reserve(jobs.size());
  for (const Correlation<T>& job : jobs) {
    if (job.images == 0 || job.grid_h == 0 || job.grid_w == 0 || job.outputs == 0) continue;
    plans.emplace_back(job, kernels, static_cast<index_t>(jobs.size()));
    start.push_back(start.back() + plans.back().tasks());
  }
  if (plans.empty()) return;
  // Tiny layers: several tasks a chunk, since waking a thread costs as much as 100,000 products.
  index_t work = 0;
  for (const Plan<T>& plan : plans)
    work = max_of(work, plan.blocks.pixels() * plan.job.depth() * plan.panels_per_task *
                            kernels.panel_columns());
  const index_t grain = max_of(1, kChunkWork / max_of(1, work));
  parallel_for(start.back(), grain, [&](index_t begin, index_t end) {
    for (index_t task = begin; task < end; ++task) {
      const auto job = std::upper_bound(start.begin(), start.end(), task) - start.begin() - 1;
      run_task(kernels, plans[static_cast<std::size_t>(job)],
               task - start[static_cast<std::size_t>(job)]);
    }
  });
}

template void correlate(const std::vector<Correlation<float>>&);
template void correlate(const std::vector<Correlation<double>>&);

}  // namespace cnncore
