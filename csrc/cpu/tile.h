// The one micro-kernel under matrix products and all three convolution kernels.
//
//   tile[r][j] (+)= sum over k of source[row[r] + depth[k]] * panel[k][j]
//
// The left factor is never packed: each of its elements is one broadcast, found by adding two table
// entries. With pixels as rows and (c, kh, kw) as depth that is a convolution; with (c, kh, kw) as
// rows and pixels as depth it is the gradient of its weights; with plain strides it is a matrix
// product. The right factor is packed into panels of `columns` lanes, padded with zeros.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/macros.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

constexpr int kMaxTileRows = 14;

template <class T>
struct TileArgs {
  const T* source;
  const index_t* row;    // offsets of the tile's rows
  const index_t* depth;  // offsets along the sum
  index_t depth_count;
  const T* panel;  // depth_count x (vectors * width)
  T* tile;
  index_t tile_stride;
  bool accumulate;
};

// Where the vectors of a tile go, for results of blocked layout (blocked/layout.h): row r, vector v
// to place[r] + v * vector_stride; finished with bias, residual and limits if this was all of the
// sum.
template <class T>
struct StoreArgs {
  T* target;
  const T* residual;     // laid out like the target; may be null
  const T* bias;         // one per lane
  const index_t* place;  // offsets of the tile's rows
  index_t vector_stride;
  T low, high;
  bool accumulate, finish;
};

template <class T>
struct TileKernels {
  using Run = void (*)(const TileArgs<T>&);
  using RunStore = void (*)(const TileArgs<T>&, const StoreArgs<T>&);
  // out[c * out_stride + r] = in[r * in_stride + c] (+ bias[c]), r < rows, c < columns
  using Transpose = void (*)(const T* in, index_t in_stride, index_t rows, index_t columns, T* out,
                             index_t out_stride, const T* bias);

  int rows;                      // most rows of one tile
  int width;                     // lanes of one vector; a panel has one or two vectors
  Run run[2][kMaxTileRows + 1];  // [vectors - 1][rows]
  RunStore run_store[2][kMaxTileRows + 1];
  Transpose transpose;
  void (*copy_row)(const T* from, T* to);  // the lanes of a whole panel: one row of it

  index_t panel_columns() const { return 2 * width; }
  index_t panels(index_t columns) const { return ceil_div(columns, panel_columns()); }
  // Lanes of panel `p`: the last one is a single vector where that is enough.
  index_t lanes(index_t p, index_t columns) const {
    return columns - p * panel_columns() <= width ? width : 2 * width;
  }
  // Columns with padding: where the panels end.
  index_t padded(index_t columns) const { return round_up(columns, width); }
};

CNNCORE_DECLARE_FOR_EACH_ISA(const TileKernels<float>& tile_kernels_f32())
CNNCORE_DECLARE_FOR_EACH_ISA(const TileKernels<double>& tile_kernels_f64())

template <class T>
const TileKernels<T>& tile_kernels();
template <>
inline const TileKernels<float>& tile_kernels<float>() {
  return CNNCORE_SELECT_ISA(tile_kernels_f32)();
}
template <>
inline const TileKernels<double>& tile_kernels<double>() {
  return CNNCORE_SELECT_ISA(tile_kernels_f64)();
}

// Runs the micro-kernel over any number of rows, split evenly so that no tile is much smaller than
// the others.
template <class T>
inline void run_tiles(const TileKernels<T>& kernels, TileArgs<T> args, index_t rows,
                      index_t lanes) {
  const index_t tiles = ceil_div(rows, kernels.rows);
  const auto* run = kernels.run[lanes / kernels.width - 1];
  const index_t* const row = args.row;
  T* const tile = args.tile;
  for (index_t t = 0; t < tiles; ++t) {
    const index_t begin = rows * t / tiles, end = rows * (t + 1) / tiles;
    args.row = row + begin;
    args.tile = tile + begin * args.tile_stride;
    run[end - begin](args);
  }
}

// The same for results of blocked layout.
template <class T>
inline void run_tiles(const TileKernels<T>& kernels, TileArgs<T> args, StoreArgs<T> store,
                      index_t rows, index_t lanes) {
  const index_t tiles = ceil_div(rows, kernels.rows);
  const auto* run = kernels.run_store[lanes / kernels.width - 1];
  const index_t* const row = args.row;
  const index_t* const place = store.place;
  for (index_t t = 0; t < tiles; ++t) {
    const index_t begin = rows * t / tiles, end = rows * (t + 1) / tiles;
    args.row = row + begin;
    store.place = place + begin;
    run[end - begin](args, store);
  }
}

}  // namespace cnncore
