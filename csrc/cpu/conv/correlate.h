// The engine under conv2d and conv_transpose2d: a correlation of planes with packed weights.
#pragma once

#include <vector>

#include "cpu/finish.h"
#include "cpu/planes.h"
#include "cpu/tile.h"

namespace cnncore {

// target[n, m, u, v] = bias[m] + sum over c, i, j of
//     weight[(c, i, j), m] * source[n, c, u * h.step + h.shift[i], v * w.step + w.shift[j]]
// for u < grid_h, v < grid_w; coordinates outside the source plane read zero. Then `finish`.
template <class T>
struct Correlation {
  Planes<T> source;
  index_t images, channels, source_image_stride;
  AxisTaps h, w;
  index_t grid_h, grid_w;
  const T* panels;  // packed weights: rows (c, i, j), `outputs` columns
  index_t outputs;
  const T* bias;     // may be null
  Finish<T> finish;  // its residual begins where the target does
  T* target;
  index_t target_image_stride, target_channel_stride, target_row_stride, target_column_stride;

  index_t depth() const { return channels * h.taps() * w.taps(); }
};

// Runs independent correlations (groups, phases of a strided transpose) as one parallel loop.
template <class T>
void correlate(const std::vector<Correlation<T>>& jobs);

}  // namespace cnncore
