// Images cut into the tiles of a Winograd convolution: reading tiles into the transformed domain
// and writing them back, whatever the layout of the images.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/conv/winograd_kernels.h"
#include "cpu/finish.h"

namespace cnncore {

// A batch of images: planes (N, C, H, W) where lanes == 1, else blocks of channels
// (N, C/lanes, H, W, lanes) with C rounded up; lanes is then a multiple of the vector's width.
template <class T>
struct ConvImages {
  T* data;
  index_t channels, height, width;
  index_t lanes = 1;

  index_t plane() const { return height * width; }
  // Elements before channel c of image n (c a multiple of the vector's width where lanes > 1).
  index_t offset(index_t n, index_t c) const {
    return (n * round_up(channels, lanes) + c / lanes * lanes) * plane() + c % lanes;
  }
};

// Elements for `count` of them such that the next row begins an odd number of cache lines later:
// the n * n rows that a transform writes at once then lie in different sets of the cache.
template <class T>
index_t odd_lines(index_t count) {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  return (ceil_div(count, line) | 1) * line;
}

// Tiles side by side in one row of tiles of one image.
struct TileRun {
  index_t image, row, column;  // of the first, in tiles
  index_t tiles;
};

// Most tiles of a run, and its most pixels along the row: they stay in the cache.
constexpr index_t kRunTiles = 16, kRunPixels = 64;

// All tiles of a batch in the order of (image, row, column).
struct TileGrid {
  index_t images, rows, columns;
  index_t run;  // most tiles of a run

  index_t count() const { return images * rows * columns; }

  // Calls f(run, tiles before it) for the tiles first..last.
  template <class Function>
  void for_runs(index_t first, index_t last, Function f) const {
    for (index_t tile = first; tile < last;) {
      TileRun run{tile / (rows * columns), tile / columns % rows, tile % columns, 0};
      run.tiles = min_of(this->run, min_of(columns - run.column, last - tile));
      f(run, tile - first);
      tile += run.tiles;
    }
  }
};

// Transforms one vector of channels (`lanes` of them, the first is `channel`) of a run of tiles.
// A tile is extent x extent pixels, the first one of tile (0, 0) is (-top, -left), the next tile
// begins `step` pixels on; pixels outside the image are zero. v as in WinogradForm::Expand, for
// each of apart x apart phases (or lattices), whose pixels lie that far apart.
template <class T>
struct TileReader {
  using Expand = typename WinogradForm<T>::Expand;

  const WinogradKernels<T>& kernels;
  const Expand* expand;        // one, or where there is an order one for each phase
  const WinogradPhase* order;  // null: row by row
  index_t apart;
  ConvImages<const T> images;
  index_t extent, step, top, left;

  // The phases' v are `phase` elements apart.
  void read(const TileRun& run, index_t channel, index_t lanes, T* space, T* v, index_t stride,
            index_t next, index_t phase = 0) const;
};

// Writes one vector of channels of a run of tiles of step x step pixels and finishes it. The first
// pixel of tile (0, 0) is (-top, -left). `pixels` holds the rows of the run, `pitch` pixels each:
// columns(run) or more.
template <class T>
struct TileWriter {
  const WinogradKernels<T>& kernels;
  ConvImages<T> images;
  index_t step, top, left;
  Finish<T> finish;

  index_t columns(const TileRun& run) const {
    return min_of(run.tiles * step, images.width + left - run.column * step);
  }
  void write(const TileRun& run, index_t channel, index_t lanes, T* pixels, index_t pitch) const;
};

}  // namespace cnncore
