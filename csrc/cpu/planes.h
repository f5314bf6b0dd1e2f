// Source planes as the micro-kernel reads them: a local, zero-padded copy of some rows and
// channels, so that no tap needs a bounds check and no column matrix is built.
//
// Along one axis, tap t of output u reads source coordinate u * step + shift[t].
#pragma once

#include <vector>

#include "cnncore/geometry.h"

namespace cnncore {

struct AxisTaps {
  index_t step = 1;
  std::vector<index_t> shift;  // one per tap; may be empty

  index_t taps() const { return static_cast<index_t>(shift.size()); }
  index_t lowest() const;
  index_t highest() const;

  // With a single tap the copy leaves out the coordinates that a step skips.
  index_t copy_step() const { return taps() == 1 ? step : 1; }
  index_t local_step() const { return taps() == 1 ? 1 : step; }
  // Coordinates that the copy for `outputs` neighbouring outputs holds.
  index_t extent(index_t outputs) const {
    return outputs == 0 || taps() == 0 ? 0 : (outputs - 1) * local_step() + span() + 1;
  }
  index_t span() const { return taps() == 1 ? 0 : highest() - lowest(); }
  // Whether all of `outputs` outputs read inside 0..size.
  bool inside(index_t outputs, index_t size) const {
    return taps() == 0 || outputs == 0 ||
           (lowest() >= 0 && (outputs - 1) * step + highest() < size);
  }
};

template <class T>
struct Planes {
  const T* data;
  index_t height, width, channel_stride;
};

// Copies source rows for outputs `first`.. of axis h (`rows` of them) and all columns of
// `grid_w` outputs of axis w, for `channels` channels; channel c begins at local + c * pitch.
template <class T>
void copy_planes(const Planes<T>& source, index_t channels, const AxisTaps& h, index_t first,
                 index_t rows, const AxisTaps& w, index_t columns, T* local, index_t pitch);

// Elements between channels of a local copy: never a multiple of 1 KB, or neighbouring channels
// would compete for the same few cache lines.
template <class T>
index_t channel_pitch(index_t elements) {
  constexpr index_t kilobyte = 1024 / static_cast<index_t>(sizeof(T));
  return elements % kilobyte == 0 ? elements + 16 : elements;
}

// How the grid of outputs of all images is cut into blocks of pixels: bands of rows of one image,
// or several small images at once. Depends on shapes only, never on the number of threads.
struct PixelBlocks {
  index_t images, grid_h, grid_w;
  index_t band;              // rows of a block
  index_t bands;             // blocks per image
  index_t images_per_block;  // > 1 only where one band is a whole image

  PixelBlocks(index_t images, index_t grid_h, index_t grid_w, index_t wanted_pixels);

  index_t count() const { return ceil_div(images, images_per_block) * bands; }
  index_t pixels() const { return images_per_block * band * grid_w; }  // at most

  struct Block {
    index_t image, images, row, rows;
  };
  Block block(index_t index) const;
};

}  // namespace cnncore
