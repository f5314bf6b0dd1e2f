// Rows are output channels, columns the pixels of all images: a plain matrix product, whose right
// factor is im2col's matrix, packed straight from the planes.
//
// Filters are read as they lie in memory, and the results come out as planes: neither is packed or
// transposed. The price is that every tap of every channel is copied into the panels, so this pays
// where there are many filters and few pixels: the last layers of a classifier, whose filters are
// larger than their images. There the pixels of an image alone (7 x 7) would leave many lanes idle,
// and each image would read all filters again; joined, they fill the panels but for the last.
//
// All panels are packed first, by channels: a channel's planes are copied apart once, with zeros
// around them and split by column modulo the step, so that each tap is a few copies of whole rows.
// Then tasks of some rows and as many pixels as a quarter of the second-level cache holds (256 of
// 1 MB), with results in a tile of their own until the sum is complete: pixels of one panel may
// belong to two images.
//
// A transpose whose taps do not overlap (2 x 2 with stride 2, as in U-Net) is the same product with
// rows (channel, tap): each pixel of y becomes a patch of x. Rows of neighbouring taps are
// interleaved as they leave the tile, so that x is written once, in order.
#include "cpu/conv/joined.h"

#include <algorithm>
#include <cstring>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/caches.h"
#include "cpu/conv/cost.h"
#include "cpu/conv/strided_transpose.h"
#include "cpu/copy_columns.h"

namespace cnncore {
namespace {

constexpr index_t kDepthBlock = 256;      // channels x taps between two visits of the tile
constexpr index_t kPanelBytes = 8 << 20;  // of all panels: they are read again from the last level
constexpr index_t kChunkWork = 500000;    // products worth handing to another thread
constexpr index_t kPiece = 8;             // elements copied at a time; up to 7 beyond the end

constexpr index_t kRows = 112;  // of a task
constexpr index_t kTasks = 8;   // as many tasks as this where the shape allows it

// Filters come from memory: tasks are split by rows rather than by pixels, so that each is read
// once.
template <class T>
Blocking split_rows(const TileKernels<T>& kernels, index_t rows, index_t panels) {
  const index_t panel = kernels.panel_columns() * kDepthBlock * static_cast<index_t>(sizeof(T));
  const index_t group = max_of(1, min_of(panels, caches().second / 4 / panel));
  const index_t wanted = ceil_div(kTasks, max_of(1, ceil_div(panels, group)));
  return {max_of(ceil_div(rows, kRows), min_of(wanted, ceil_div(rows, 2 * kernels.rows))), group};
}

template <class T>
class Joined {
 public:
  explicit Joined(const JoinedCorrelation<T>& job)
      : job_(job),
        tiles_(tile_kernels<T>()),
        planes_(plane_tile_kernels<T>()),
        taps_(job.h.taps() * job.w.taps()),
        depth_(job.channels * taps_),
        pixels_(job.pixels()),
        outputs_(job.weights.rows),
        panels_(tiles_.panels(pixels_)),
        // Rows of different panels never fall into the same places of the caches.
        pitch_(checked_product(depth_ + 1, tiles_.panel_columns())),
        block_(split_rows(tiles_, outputs_, panels_)),
        rows_(ceil_div(outputs_ / job.spread(), block_.row_blocks) * job.spread()),
        groups_(ceil_div(panels_, block_.panels)),
        depth_block_(min_of(depth_, kDepthBlock)),
        left_(tiles_, job.weights, rows_, depth_block_),
        packed_(checked_product(panels_, pitch_)) {
    in_place_ =
        taps_ == 1 && job.h.inside(job.grid_h, job.height) && job.w.inside(job.grid_w, job.width);
    if (in_place_ || taps_ == 0) return;
    for (index_t shift : job.w.shift) {
      const index_t slot = (shift - job.w.lowest()) % job.w.step;
      if (std::find(slots_.begin(), slots_.end(), slot) == slots_.end()) slots_.push_back(slot);
    }
    copy_rows_ = (job.grid_h - 1) * job.h.step + job.h.span() + 1;
    row_pitch_ = job.grid_w + job.w.span() / job.w.step;
    image_pitch_ = checked_product(static_cast<index_t>(slots_.size()), copy_rows_, row_pitch_);
  }

  void run() const {
    parallel_for(job_.channels, grain_for(taps_ * pixels_ / 4), [&](index_t begin, index_t end) {
      Scratch<T> line(pixels_ + kPiece), copy(job_.images * image_pitch_ + kPiece);
      for (index_t c = begin; c < end; ++c) pack(c, line.data(), copy.data());
    });
    const index_t work = rows_ * block_.panels * tiles_.panel_columns() * depth_;
    parallel_for(block_.row_blocks * groups_, max_of(1, kChunkWork / max_of(1, work)),
                 [&](index_t begin, index_t end) {
                   Scratch<T> left(left_.local_size());
                   Scratch<T> tile(block_.panels * rows_ * tiles_.panel_columns());
                   for (index_t task = begin; task < end; ++task)
                     multiply(task, left.data(), tile.data());
                 });
  }

 private:
  // The rows of all panels that channel c fills.
  void pack(index_t c, T* line, T* copy) const {
    const index_t plane = job_.height * job_.width;
    const T* const first = job_.source + c * plane;
    if (in_place_) {
      for (index_t n = 0; n < job_.images; ++n)
        pick(first + n * job_.channels * plane, line + n * job_.plane());
      store(c, line);
      return;
    }
    for (index_t n = 0; n < job_.images; ++n)
      take_apart(first + n * job_.channels * plane, copy + n * image_pitch_);
    index_t k = c * taps_;
    for (index_t i : job_.h.shift)
      for (index_t j : job_.w.shift) {
        const index_t place = j - job_.w.lowest();
        const auto slot = std::find(slots_.begin(), slots_.end(), place % job_.w.step);
        const T* const from =
            copy + ((slot - slots_.begin()) * copy_rows_ + i - row_shift()) * row_pitch_ +
            place / job_.w.step;
        T* to = line;
        for (index_t n = 0; n < job_.images; ++n)
          for (index_t u = 0; u < job_.grid_h; ++u, to += job_.grid_w)
            copy_pieces(from + n * image_pitch_ + u * job_.h.step * row_pitch_, job_.grid_w, to);
        store(k++, line);
      }
  }

  // A single tap that never leaves the plane.
  void pick(const T* plane, T* to) const {
    const index_t step = job_.w.step;
    plane += job_.h.lowest() * job_.width + job_.w.lowest();
    if (step == 1 && job_.h.step == 1 && job_.grid_w == job_.width) {
      std::copy_n(plane, job_.plane(), to);
      return;
    }
    for (index_t u = 0; u < job_.grid_h; ++u, to += job_.grid_w)
      copy_columns(planes_, plane + u * job_.h.step * job_.width, job_.width - job_.w.lowest(), 0,
                   step, job_.grid_w, to);
  }

  index_t row_shift() const { return job_.h.lowest(); }

  // A plane with zeros around it, split by column modulo the step.
  void take_apart(const T* plane, T* to) const {
    for (index_t slot : slots_)
      for (index_t r = 0; r < copy_rows_; ++r, to += row_pitch_) {
        const index_t row = row_shift() + r;
        if (row >= 0 && row < job_.height)
          copy_columns(planes_, plane + row * job_.width, job_.width, job_.w.lowest() + slot,
                       job_.w.step, row_pitch_, to);
        else
          std::fill_n(to, row_pitch_, T(0));
      }
  }

  // What is written beyond the end is overwritten next: rows follow each other.
  static void copy_pieces(const T* from, index_t count, T* to) {
    for (index_t i = 0; i < count; i += kPiece) std::memcpy(to + i, from + i, kPiece * sizeof(T));
  }

  // One line of pixels becomes row k of every panel.
  void store(index_t k, const T* line) const {
    const index_t columns = tiles_.panel_columns(), whole = pixels_ / columns * columns;
    planes_.split(line, whole, packed_.data() + k * columns, pitch_);
    if (whole == pixels_) return;
    const index_t lanes = tiles_.lanes(panels_ - 1, pixels_), rest = pixels_ - whole;
    T* const to = packed_.data() + (panels_ - 1) * pitch_ + k * lanes;
    std::copy_n(line + whole, rest, to);
    std::fill_n(to + rest, lanes - rest, T(0));
  }

  void multiply(index_t task, T* left, T* tile) const {
    const index_t columns = tiles_.panel_columns();
    // The taps of an output channel stay together.
    const index_t spread = job_.spread(), channels = outputs_ / spread;
    const index_t row = channels * (task / groups_) / block_.row_blocks * spread;
    const index_t rows = channels * (task / groups_ + 1) / block_.row_blocks * spread - row;
    if (rows == 0) return;
    const index_t group = task % groups_;
    const index_t first = panels_ * group / groups_, last = panels_ * (group + 1) / groups_;
    if (depth_ == 0) std::fill_n(tile, (last - first) * rows * columns, T(0));
    for (index_t k = 0; k < depth_; k += depth_block_) {
      const index_t depth = min_of(depth_block_, depth_ - k);
      const T* const source = left_.block(row, rows, k, depth, left);
      for (index_t p = first; p < last; ++p) {
        const index_t lanes = tiles_.lanes(p, pixels_);
        run_tiles(tiles_,
                  TileArgs<T>{source, left_.row_table(), left_.depth_table(), depth,
                              packed_.data() + p * pitch_ + k * lanes,
                              tile + (p - first) * rows * columns, lanes, k > 0},
                  rows, lanes);
      }
    }
    for (index_t r = 0; r < rows; r += spread) {
      const Strip strip{tile, rows, r, first, last};
      if (job_.spread_h.stride * job_.spread_w.stride > 1)
        spread_out((row + r) / spread, strip);
      else
        write(row + r, strip);
    }
  }

  // Rows of a task's tile, panel after panel.
  struct Strip {
    const T* tile;
    index_t rows, row, first, last;  // of the tile; the one meant; panels
  };

  // Lane `lane` of panel p in row `row` of the strip.
  const T* lane_of(const Strip& strip, index_t row, index_t p, index_t lane) const {
    return strip.tile + (p - strip.first) * strip.rows * tiles_.panel_columns() +
           row * tiles_.lanes(p, pixels_) + lane;
  }

  // All taps of one output channel, to the patches of the pixels.
  void spread_out(index_t output, const Strip& strip) const {
    const Window1d &h = job_.spread_h, &w = job_.spread_w;
    const index_t columns = tiles_.panel_columns(), outputs = outputs_ / job_.spread();
    const index_t end = min_of(pixels_, strip.last * columns);
    const T bias = job_.bias != nullptr ? job_.bias[output] : T(0);
    for (index_t pixel = strip.first * columns; pixel < end;) {
      const index_t p = pixel / columns, lane = pixel % columns, v = pixel % job_.grid_w;
      const index_t u = pixel % job_.plane() / job_.grid_w, image = pixel / job_.plane();
      const index_t count =
          min_of(min_of(tiles_.lanes(p, pixels_) - lane, job_.grid_w - v), end - pixel);
      const index_t length = min_of(count * w.stride, job_.target_w - v * w.stride);
      const index_t first = u * h.stride;
      for (index_t i = 0; i < min_of(h.stride, job_.target_h - first); ++i) {
        const index_t offset =
            ((image * outputs + output) * job_.target_h + first + i) * job_.target_w + v * w.stride;
        T* const to = job_.target + offset;
        const index_t tap_row = strip.row + i * w.kernel;
        if (i < h.kernel && w.kernel == 2 && w.stride == 2) {
          planes_.interleave(lane_of(strip, tap_row, p, lane), lane_of(strip, tap_row + 1, p, lane),
                             count, to);
        } else {
          std::fill_n(to, length, T(0));
          for (index_t j = 0; i < h.kernel && j < w.kernel; ++j) {
            const T* const tap = lane_of(strip, tap_row + j, p, lane);
            for (index_t t = 0; t < count; ++t) to[t * w.stride + j] = tap[t];
          }
        }
        if (job_.bias != nullptr)
          for (index_t t = 0; t < length; ++t) to[t] += bias;
        finish(offset, length);
      }
      pixel += count;
    }
  }

  void finish(index_t offset, index_t count) const {
    const Finish<T>& finish = job_.finish;
    if (finish.needed())
      finish_run(finish, finish.residual != nullptr ? finish.residual + offset : nullptr,
                 job_.target + offset, count);
  }

  // One output channel: to the planes of the images that the pixels belong to.
  void write(index_t output, const Strip& strip) const {
    const index_t columns = tiles_.panel_columns(), plane = job_.plane();
    const index_t end = min_of(pixels_, strip.last * columns);
    const T bias = job_.bias != nullptr ? job_.bias[output] : T(0);
    for (index_t pixel = strip.first * columns; pixel < end;) {
      const index_t image = pixel / plane, at = pixel % plane;
      const index_t offset = (image * outputs_ + output) * plane + at;
      const index_t count = min_of(plane - at, end - pixel);
      T* to = job_.target + offset;
      for (const index_t stop = pixel + count; pixel < stop;) {
        const index_t p = pixel / columns, lane = pixel % columns;
        const index_t some = min_of(tiles_.lanes(p, pixels_) - lane, stop - pixel);
        const T* const from = lane_of(strip, strip.row, p, lane);
        for (index_t i = 0; i < some; ++i) to[i] = from[i] + bias;
        to += some;
        pixel += some;
      }
      finish(offset, count);
    }
  }

  const JoinedCorrelation<T>& job_;
  const TileKernels<T>& tiles_;
  const PlaneTileKernels<T>& planes_;
  index_t taps_, depth_, pixels_, outputs_, panels_, pitch_;
  Blocking block_;
  index_t rows_, groups_, depth_block_;
  LeftFactor<T> left_;
  Scratch<T> packed_;
  bool in_place_;               // planes are not taken apart
  std::vector<index_t> slots_;  // the columns modulo the step that are copied
  index_t copy_rows_ = 0, row_pitch_ = 0, image_pitch_ = 0;  // of the copy
};

double of(index_t value) {
  return static_cast<double>(value);
}

}  // namespace

template <class T>
void correlate_joined(const JoinedCorrelation<T>& job) {
  if (job.pixels() * job.weights.rows == 0) return;
  Joined<T>(job).run();
}

bool joined_serves(const ConvShape& s, ConvDirection direction) {
  if (s.groups != 1 || direction == ConvDirection::weight) return false;
  if (is_strided_transpose(s, direction)) return false;  // rows of the bias between the results
  const index_t pixels = s.images * s.oh() * s.ow();
  const index_t depth = direction == ConvDirection::output ? s.channels * s.taps() : s.outputs;
  if (of(pixels) * of(depth) * 4 > of(kPanelBytes)) return false;
  const auto apart = [](const Window1d& w, index_t size) {
    return w.kernel <= w.stride && (w.dilation == 1 || w.kernel == 1) && w.before == 0 &&
           w.after == 0 && size <= w.output_size(size) * w.stride;
  };
  return direction == ConvDirection::output ||
         (apart(s.window.h, s.height) && apart(s.window.w, s.width));
}

// Two copies of every tap, and results that pass through a tile. Panels beyond the second level
// come from the last one, and a row of them touches as many pages as there are panels.
double joined_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  const bool forward = direction == ConvDirection::output;
  const index_t depth = forward ? s.channels * s.taps() : s.outputs;
  const index_t outputs = forward ? s.outputs : s.channels * s.taps();
  const double vectors = of(ceil_div(s.images * s.oh() * s.ow(), width));
  // Measured with two threads: where the other form fills its lanes, too, only patches gain.
  const double product = !forward ? 1.08 : width >= 16 ? 1.2 : 1.03;
  const bool large = of(depth) * vectors * of(width) * 4 > of(kPanelBytes / 4);
  const double copy = forward && s.taps() > 1 ? 16 : large ? 100 : 6;
  const double places = forward ? 1 : of(s.window.h.stride * s.window.w.stride) / of(s.taps());
  const double store = forward ? 12 : 40 * places;  // patches leave the tile a row of pixels a time
  return product * of(depth) * of(outputs) * vectors + copy * of(depth) * vectors +
         store * of(outputs) * vectors + 4 * of(depth) * of(outputs) / of(width);
}

template void correlate_joined(const JoinedCorrelation<float>&);
template void correlate_joined(const JoinedCorrelation<double>&);

}  // namespace cnncore
