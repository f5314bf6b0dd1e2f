// Packed, blocked matrix product on the micro-kernel of tile.h.
//
// The right factor is packed once, or where each part of it is needed by one task only, by that
// task. Work is split over blocks of c; a task copies its block of the left factor (rows then lie
// an odd number of cache lines apart, whatever the caller's stride) and goes through the panels of
// the right one.
#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
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

constexpr index_t kDepthBlock = 256;    // a panel block of 32 KB stays in the first-level cache
constexpr index_t kTasks = 8;           // as many tasks as this where the shape allows it
constexpr index_t kChunkWork = 500000;  // products worth handing to another thread

template <class T>
void pack_panel(const TileKernels<T>& kernels, const MatrixView<T>& b, index_t columns,
                index_t lanes, T* panel) {
  if (columns < lanes) std::fill(panel, panel + b.rows * lanes, T(0));
  if (b.column_stride == 1) {
    for (index_t k = 0; k < b.rows; ++k)
      std::copy_n(b.data + k * b.row_stride, columns, panel + k * lanes);
  } else if (b.row_stride == 1) {
    kernels.transpose(b.data, b.column_stride, columns, b.rows, panel, lanes, nullptr);
  } else {
    for (index_t k = 0; k < b.rows; ++k)
      for (index_t j = 0; j < columns; ++j)
        panel[k * lanes + j] = b.data[k * b.row_stride + j * b.column_stride];
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

struct Blocking {
  index_t rows, panels;  // of one task
};

Blocking choose_blocking(index_t m, index_t panels, index_t tile_rows) {
  index_t tiles = 8, group = 8;
  const auto tasks = [&] { return ceil_div(m, tiles * tile_rows) * ceil_div(panels, group); };
  while (tasks() < kTasks && (tiles > 2 || group > 1)) {
    if (group > 1 && (group >= tiles || tiles == 2))
      group /= 2;
    else
      tiles /= 2;
  }
  return {tiles * tile_rows, group};
}

}  // namespace

template <class T>
void pack_panels(const TileKernels<T>& kernels, const MatrixView<T>& b, T* panels) {
  const index_t width = kernels.panel_columns();
  parallel_for(kernels.panels(b.columns), grain_for(b.rows * width),
               [&](index_t begin, index_t end) {
                 for (index_t p = begin; p < end; ++p)
                   pack_panel(kernels, b.at(0, p * width), min_of(width, b.columns - p * width),
                              kernels.lanes(p, b.columns), panels + p * width * b.rows);
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

template <class T>
void gemm(const MatrixView<T>& a, const MatrixView<T>& b, T* c, index_t c_stride, bool accumulate) {
  const index_t m = a.rows, n = b.columns, depth = a.columns;
  if (m == 0 || n == 0) return;
  if (depth == 0) {
    if (!accumulate)
      for (index_t r = 0; r < m; ++r) std::fill_n(c + r * c_stride, n, T(0));
    return;
  }
  if (thin_product(a, b, c, c_stride, accumulate)) return;
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t panels = kernels.panels(n), panel_columns = kernels.panel_columns();
  const Blocking block = choose_blocking(m, panels, kernels.rows);
  const index_t row_blocks = ceil_div(m, block.rows), groups = ceil_div(panels, block.panels);
  const index_t depth_block = min_of(depth, kDepthBlock);
  // Few rows: every panel is used by one task, which packs it piece by piece in its caches.
  const bool packs_itself = row_blocks == 1;
  Scratch<T> packed(packs_itself ? 0 : packed_size(kernels, depth, n));
  if (!packs_itself) pack_panels(kernels, b, packed.data());
  // Keep the copy in the direction in which the left factor is contiguous.
  const bool by_rows = a.column_stride == 1 || a.row_stride != 1;
  const index_t row_pitch = by_rows ? depth_block + 16 : 1;
  const index_t depth_pitch = by_rows ? 1 : block.rows + 16;

  const index_t work = block.rows * block.panels * panel_columns * depth;
  parallel_for(
      row_blocks * groups, max_of(1, kChunkWork / max_of(1, work)),
      [&](index_t begin, index_t end) {
        Scratch<T> left(by_rows ? block.rows * row_pitch : depth_block * depth_pitch);
        Scratch<T> edge(block.rows * panel_columns);  // the last panel, where c is narrower than it
        Scratch<T> piece(packs_itself ? depth_block * panel_columns : 0);
        Scratch<index_t> tables(block.rows + depth_block);
        index_t* const row_table = tables.data();
        index_t* const depth_table = row_table + block.rows;
        for (index_t r = 0; r < block.rows; ++r) row_table[r] = r * row_pitch;
        for (index_t k = 0; k < depth_block; ++k) depth_table[k] = k * depth_pitch;

        for (index_t task = begin; task < end; ++task) {
          const index_t row = task / groups * block.rows, rows = min_of(block.rows, m - row);
          const index_t first = task % groups * block.panels;
          const index_t last = min_of(panels, first + block.panels);
          for (index_t k = 0; k < depth; k += depth_block) {
            const index_t depth_count = min_of(depth_block, depth - k);
            copy_block(a.at(row, k), rows, depth_count, row_pitch, depth_pitch, left.data());
            for (index_t p = first; p < last; ++p) {
              const index_t lanes = kernels.lanes(p, n),
                            columns = min_of(lanes, n - p * panel_columns);
              T* const target = c + row * c_stride + p * panel_columns;
              const bool narrow = columns < lanes;
              const T* panel = packed.data() + p * panel_columns * depth + k * lanes;
              if (packs_itself) {
                MatrixView<T> part = b.at(k, p * panel_columns);
                part.rows = depth_count;
                pack_panel(kernels, part, columns, lanes, piece.data());
                panel = piece.data();
              }
              TileArgs<T> args{left.data(),
                               row_table,
                               depth_table,
                               depth_count,
                               panel,
                               narrow ? edge.data() : target,
                               narrow ? lanes : c_stride,
                               narrow ? k > 0 : accumulate || k > 0};
              run_tiles(kernels, args, rows, lanes);
              if (narrow && k + depth_count == depth)
                for (index_t r = 0; r < rows; ++r)
                  for (index_t j = 0; j < columns; ++j) {
                    T& out = target[r * c_stride + j];
                    out = accumulate ? out + edge[r * lanes + j] : edge[r * lanes + j];
                  }
            }
          }
        }
      });
}

template void pack_panels(const TileKernels<float>&, const MatrixView<float>&, float*);
template void pack_panels(const TileKernels<double>&, const MatrixView<double>&, double*);
template void gemm(const MatrixView<float>&, const MatrixView<float>&, float*, index_t, bool);
template void gemm(const MatrixView<double>&, const MatrixView<double>&, double*, index_t, bool);

}  // namespace cnncore
