// Correlations of blocked (or planar) planes with packed weights, results blocked: what
// conv/correlate.h is to planes.
#pragma once

#include <vector>

#include "cpu/blocked/finish.h"
#include "cpu/planes.h"

namespace cnncore {

// One correlation of blocked (or planar) planes with packed weights, as in conv/correlate.h.
template <class T>
struct BlockedJob {
  const T* source;
  index_t pixel;  // elements of a pixel: lanes of a block, or 1 for planes
  index_t images, channels, height, width, image_stride;
  AxisTaps h, w;
  index_t grid_h, grid_w;
  const T* panels;
  index_t outputs;
  const T* bias;   // padded to whole panels
  const T* scale;  // null, or what every channel of every image is multiplied by first
  index_t target, target_image_stride, target_block_stride, row_step, column_step;  // in elements

  index_t block_stride() const { return height * width * pixel; }
  index_t taps() const { return h.taps() * w.taps(); }
  // Where channel c of pixel 0 is, with `block` elements between blocks.
  index_t channel_offset(index_t c, index_t block) const { return c / pixel * block + c % pixel; }
};

// Runs them all; they write different parts of `target`.
template <class T>
void run_jobs(const std::vector<BlockedJob<T>>& jobs, const Finish<T>& finish, T* target);

}  // namespace cnncore
