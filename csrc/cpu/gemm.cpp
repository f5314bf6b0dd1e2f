// Packed, blocked matrix product on the micro-kernel of tile.h.
//
// A task is a block of c: some 100 rows, so that what is read of the right factor is used often,
// and as many columns as half the second-level cache holds (512 of 1 MB), so that the same holds
// for the left one; smaller where there would be too few tasks. It goes through the depth in steps
// of 256, through the panels of the right factor (32 KB with AVX-512, half of that with AVX2) and
// through tiles of rows.
//
// The right factor is packed once for all tasks, or where each part of it is needed by one task
// only, by that task. The left factor is read where it lies, unless its rows are scattered or lie
// so that they compete for cache lines: then each task copies what it is about to read.
#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/caches.h"
#include "cpu/dispatch_isa.h"
#include "cpu/thin.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void thin_dots_loop(const ThinProduct<T>& product,
                                                                    index_t first, index_t last))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void thin_rows_loop(const ThinProduct<T>& product,
                                                                    index_t first, index_t last))

namespace {

// Columns of the result in chunks.
template <class T, class Loop>
void run_thin(Loop loop, const ThinProduct<T>& product, index_t columns, index_t chunk) {
  parallel_for(columns, chunk, [&](index_t first, index_t last) { loop(product, first, last); });
}

constexpr index_t kDepthBlock = 256;    // a panel block of 32 KB stays near the first-level cache
constexpr index_t kRows = 112;          // of a task
constexpr index_t kTasks = 8;           // as many tasks as this where the shape allows it
constexpr index_t kFewTasks = 4;        // or this, even if they are small
constexpr index_t kChunkWork = 500000;  // products worth handing to another thread
constexpr index_t kAhead = 8;           // rows
constexpr index_t kPackPanels = 4;      // packed together: longer stretches of each row

// Rows first..first + depth of the panels begin..end of b; panel p goes to
// panels + (p - begin) * pitch.
template <class T>
void pack_some(const TileKernels<T>& kernels, const MatrixView<T>& b, index_t first, index_t depth,
               index_t begin, index_t end, T* panels, index_t pitch) {
  const index_t width = kernels.panel_columns();
  if (b.column_stride == 1) {
    for (index_t k = 0; k < depth; ++k) {
      const T* const row = b.data + (first + k) * b.row_stride;
      for (index_t p = begin; p < end; ++p) {
        const index_t lanes = kernels.lanes(p, b.columns);
        const index_t columns = min_of(lanes, b.columns - p * width);
        T* const to = panels + (p - begin) * pitch + k * lanes;
        // The next rows lie in other pages, which no hardware foresees.
        if (k + kAhead < depth) {
          const T* const ahead = row + kAhead * b.row_stride + p * width;
          __builtin_prefetch(ahead);
          __builtin_prefetch(ahead + lanes / 2);
        }
        if (columns == width) {
          kernels.copy_row(row + p * width, to);
        } else {
          std::copy_n(row + p * width, columns, to);
          std::fill_n(to + columns, lanes - columns, T(0));
        }
      }
    }
    return;
  }
  for (index_t p = begin; p < end; ++p) {
    const MatrixView<T> part = b.at(first, p * width);
    const index_t lanes = kernels.lanes(p, b.columns);
    const index_t columns = min_of(lanes, part.columns);
    T* const to = panels + (p - begin) * pitch;
    if (columns < lanes) std::fill_n(to, depth * lanes, T(0));
    if (b.row_stride == 1) {
      kernels.transpose(part.data, b.column_stride, columns, depth, to, lanes, nullptr);
    } else {
      for (index_t k = 0; k < depth; ++k)
        for (index_t j = 0; j < columns; ++j)
          to[k * lanes + j] = part.data[k * b.row_stride + j * b.column_stride];
    }
  }
}

// A block of the left factor, copied so that its elements are source[row[r] + depth[k]].
template <class T>
void copy_block(const MatrixView<T>& a, index_t rows, index_t depth, index_t row_pitch,
                index_t depth_pitch, T* block) {
  if (depth_pitch == 1 && a.column_stride == 1) {
    for (index_t r = 0; r < rows; ++r)
      std::copy_n(a.data + r * a.row_stride, depth, block + r * row_pitch);
    return;
  }
  for (index_t k = 0; k < depth; ++k) {
    const T* const from = a.data + k * a.column_stride;
    T* const to = block + k * depth_pitch;
    if (a.row_stride == 1 && row_pitch == 1) {
      std::copy_n(from, rows, to);
    } else {
      for (index_t r = 0; r < rows; ++r) to[r * row_pitch] = from[r * a.row_stride];
    }
  }
}

// Halves the longer side of the tasks until there are `tasks` of them or both sides are short.
void halve(Blocking& block, index_t m, index_t panels, index_t panel_columns, index_t tasks,
           index_t least_rows, index_t least_columns) {
  while (block.row_blocks * ceil_div(panels, block.panels) < tasks) {
    const index_t rows = ceil_div(m, block.row_blocks), columns = block.panels * panel_columns;
    const bool wide = columns >= 2 * least_columns, tall = rows >= 2 * least_rows;
    if (wide && (columns >= rows || !tall))
      block.panels = ceil_div(block.panels, 2);
    else if (tall)
      block.row_blocks *= 2;
    else
      return;
  }
}

}  // namespace

// Narrow tasks read the left factor too often, flat ones the right: there, fewer tasks have to do.
template <class T>
Blocking choose_blocking(const TileKernels<T>& kernels, index_t m, index_t panels,
                         index_t most_columns) {
  const index_t columns = kernels.panel_columns();
  Blocking block{ceil_div(m, kRows), max_of(1, min_of(panels, most_columns / columns))};
  halve(block, m, panels, columns, kTasks, 4 * kernels.rows, max_of(64, columns));
  halve(block, m, panels, columns, kFewTasks, kernels.rows, columns);
  return block;
}

template <class T>
LeftFactor<T>::LeftFactor(const TileKernels<T>& kernels, const MatrixView<T>& a, index_t rows,
                          index_t depth)
    : a_(a), rows_(rows), row_pitch_(a.row_stride), depth_pitch_(1), local_size_(0) {
  // Rows a multiple of 2 KB apart fall into the same few places of the first-level cache.
  const bool crowded = a.row_stride * static_cast<index_t>(sizeof(T)) % 2048 == 0;
  if (a.column_stride != 1 || (crowded && a.rows > kernels.rows)) {
    // The copy is kept in the direction in which the factor is contiguous.
    const bool by_rows = a.column_stride == 1 || a.row_stride != 1;
    row_pitch_ = by_rows ? depth + 16 : 1;
    depth_pitch_ = by_rows ? 1 : rows + 16;
    local_size_ = by_rows ? rows * row_pitch_ : depth * depth_pitch_;
  }
  for (index_t r = 0; r < rows; ++r) tables_.push_back(r * row_pitch_);
  for (index_t k = 0; k < depth; ++k) tables_.push_back(k * depth_pitch_);
}

template <class T>
const T* LeftFactor<T>::block(index_t row, index_t rows, index_t k, index_t depth, T* local) const {
  const MatrixView<T> part = a_.at(row, k);
  if (local_size_ == 0) return part.data;
  copy_block(part, rows, depth, row_pitch_, depth_pitch_, local);
  return local;
}

template <class T>
void pack_panels(const TileKernels<T>& kernels, const MatrixView<T>& b, T* panels) {
  const index_t pitch = kernels.panel_columns() * b.rows, count = kernels.panels(b.columns);
  parallel_for(ceil_div(count, kPackPanels), grain_for(pitch * kPackPanels),
               [&](index_t begin, index_t end) {
                 for (index_t i = begin; i < end; ++i) {
                   const index_t p = i * kPackPanels;
                   pack_some(kernels, b, 0, b.rows, p, min_of(count, p + kPackPanels),
                             panels + p * pitch, pitch);
                 }
               });
}

namespace {

// A product of a few rows or a few columns; says whether it was one.
template <class T>
bool thin_product(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride,
                  bool accumulate) {
  const index_t m = a.rows, n = b.columns, depth = a.columns;
  if (a.column_stride != 1 || depth < 32) return false;
  if (m <= kThinRows && b.row_stride == 1 && n > 1) {
    run_thin(CNNCORE_SELECT_ISA(thin_dots_loop<T>),
             ThinProduct<T>{a.data, b.data, c, m, depth, a.row_stride, b.column_stride, c_stride, 1,
                            accumulate},
             n, grain_for(m * depth / 8));
    return true;
  }
  if (m <= kThinRows / 2 && b.column_stride == 1 && n >= 64) {
    const index_t chunk = max_of(64, min_of(1024, round_up(n / 8, 64)));
    run_thin(CNNCORE_SELECT_ISA(thin_rows_loop<T>),
             ThinProduct<T>{a.data, b.data, c, m, depth, a.row_stride, b.row_stride, c_stride, 1,
                            accumulate},
             n, max_of(chunk, round_up(grain_for(m * depth / 8), 64)));
    return true;
  }
  if (n <= kThinRows && m > kThinRows) {  // the columns of b are the few rows, the rows of a many
    const Scratch<T> columns(n * depth);
    for (index_t j = 0; j < n; ++j)
      for (index_t k = 0; k < depth; ++k)
        columns[j * depth + k] = b.data[k * b.row_stride + j * b.column_stride];
    run_thin(CNNCORE_SELECT_ISA(thin_dots_loop<T>),
             ThinProduct<T>{columns.data(), a.data, c, n, depth, depth, a.row_stride, 1, c_stride,
                            accumulate},
             m, grain_for(n * depth / 8));
    return true;
  }
  return false;
}

}  // namespace

namespace {

template <class T>
index_t task_columns() {
  return caches().second / 2 / (kDepthBlock * static_cast<index_t>(sizeof(T)));
}

template <class T>
class Product {
 public:
  Product(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride, bool accumulate)
      : kernels_(tile_kernels<T>()),
        a_(a),
        b_(b),
        c_(c),
        c_stride_(c_stride),
        accumulate_(accumulate),
        panels_(kernels_.panels(b.columns)),
        block_(choose_blocking(kernels_, a.rows, panels_, task_columns<T>())),
        rows_(ceil_div(a.rows, block_.row_blocks)),
        groups_(ceil_div(panels_, block_.panels)),
        depth_block_(min_of(a.columns, kDepthBlock)),
        left_(kernels_, a, rows_, depth_block_),
        packed_(block_.row_blocks == 1 ? 0 : packed_size(kernels_, a.columns, b.columns)) {
    // Few rows: every panel is used by one task, which packs it piece by piece in its caches.
    if (block_.row_blocks > 1) pack_panels(kernels_, b_, packed_.data());
  }

  void run() const {
    const index_t work = rows_ * block_.panels * kernels_.panel_columns() * a_.columns;
    parallel_for(block_.row_blocks * groups_, max_of(1, kChunkWork / max_of(1, work)),
                 [&](index_t begin, index_t end) { run_tasks(begin, end); });
  }

 private:
  void run_tasks(index_t begin, index_t end) const {
    const index_t columns = kernels_.panel_columns();
    Scratch<T> left(left_.local_size());
    Scratch<T> edge(rows_ * columns);  // the last panel, where c is narrower than it
    Scratch<T> pieces(block_.row_blocks == 1 ? depth_block_ * block_.panels * columns : 0);
    for (index_t task = begin; task < end; ++task) {
      const index_t row = a_.rows * (task / groups_) / block_.row_blocks;
      const index_t rows = a_.rows * (task / groups_ + 1) / block_.row_blocks - row;
      const index_t group = task % groups_;
      const index_t first = panels_ * group / groups_, last = panels_ * (group + 1) / groups_;
      for (index_t k = 0; k < a_.columns; k += depth_block_) {
        const index_t depth = min_of(depth_block_, a_.columns - k);
        const T* const source = left_.block(row, rows, k, depth, left.data());
        if (block_.row_blocks == 1)
          pack_some(kernels_, b_, k, depth, first, last, pieces.data(), depth * columns);
        for (index_t p = first; p < last; ++p) {
          const index_t lanes = kernels_.lanes(p, b_.columns);
          const T* const panel = block_.row_blocks == 1
                                     ? pieces.data() + (p - first) * depth * columns
                                     : packed_.data() + p * columns * a_.columns + k * lanes;
          multiply(
              {source, left_.row_table(), left_.depth_table(), depth, panel, nullptr, lanes, false},
              row, rows, p, k, edge.data());
        }
      }
    }
  }

  // The rows of one panel, over the depth from k: to c, or by way of `edge`.
  void multiply(TileArgs<T> args, index_t row, index_t rows, index_t p, index_t k, T* edge) const {
    const index_t lanes = args.tile_stride;
    const index_t columns = min_of(lanes, b_.columns - p * kernels_.panel_columns());
    T* const target = c_ + row * c_stride_ + p * kernels_.panel_columns();
    if (columns == lanes) {
      args.tile = target;
      args.tile_stride = c_stride_;
      args.accumulate = accumulate_ || k > 0;
      run_tiles(kernels_, args, rows, lanes);
      return;
    }
    args.tile = edge;
    run_tiles(kernels_, args, rows, lanes);
    const bool add = accumulate_ || k > 0;
    for (index_t r = 0; r < rows; ++r)
      for (index_t j = 0; j < columns; ++j) {
        T& out = target[r * c_stride_ + j];
        out = add ? out + edge[r * lanes + j] : edge[r * lanes + j];
      }
  }

  const TileKernels<T>& kernels_;
  const MatrixView<T>&a_, &b_;
  T* c_;
  index_t c_stride_;
  bool accumulate_;
  index_t panels_;
  Blocking block_;
  index_t rows_, groups_, depth_block_;
  LeftFactor<T> left_;
  Scratch<T> packed_;
};

}  // namespace

template <class T>
void gemm(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride, bool accumulate) {
  if (a.rows == 0 || b.columns == 0) return;
  if (a.columns == 0) {
    if (!accumulate)
      for (index_t r = 0; r < a.rows; ++r) std::fill_n(c + r * c_stride, b.columns, T(0));
    return;
  }
  if (thin_product(a, b, c, c_stride, accumulate)) return;
  Product<T>(a, b, c, c_stride, accumulate).run();
}

template Blocking choose_blocking(const TileKernels<float>&, index_t, index_t, index_t);
template Blocking choose_blocking(const TileKernels<double>&, index_t, index_t, index_t);
template class LeftFactor<float>;
template class LeftFactor<double>;
template void pack_panels(const TileKernels<float>&, const MatrixView<float>&, float*);
template void pack_panels(const TileKernels<double>&, const MatrixView<double>&, double*);
template void gemm(const MatrixView<float>&, const MatrixView<float>&, float*, index_t, bool);
template void gemm(const MatrixView<double>&, const MatrixView<double>&, double*, index_t, bool);

}  // namespace cnncore
