// The other way round of the implicit product (correlate.h): rows are output channels, columns are
// the pixels of all images, side by side.
#pragma once

#include "cpu/conv/shape.h"
#include "cpu/finish.h"
#include "cpu/gemm.h"
#include "cpu/planes.h"

namespace cnncore {

// target[n, m, u, v] = bias[m] + sum over k = (c, i, j) of
//     weights[m, k] * source[n, c, u * h.step + h.shift[i], v * w.step + w.shift[j]]
// for u < grid_h, v < grid_w; coordinates outside the source plane read zero. Then `finish`.
//
// Or, of a transpose whose taps do not overlap, with rows (m, i, j), i < spread_h.kernel, …:
// target[n, m, u * spread_h.stride + i, v * spread_w.stride + j], the bias alone elsewhere.
template <class T>
struct JoinedCorrelation {
  const T* source;  // (images, channels, height, width)
  index_t images, channels, height, width;
  AxisTaps h, w;
  index_t grid_h, grid_w;
  MatrixView<T> weights;
  Window1d spread_h, spread_w;  // of a transpose; else a kernel of 1
  const T* bias;                // may be null
  Finish<T> finish;
  T* target;  // (images, outputs, target_h, target_w)
  index_t target_h, target_w;

  index_t plane() const { return grid_h * grid_w; }
  index_t pixels() const { return images * plane(); }
  index_t spread() const { return spread_h.kernel * spread_w.kernel; }
};

template <class T>
void correlate_joined(const JoinedCorrelation<T>& job);

// Whether it serves: one group; a transpose needs a stride no smaller than the kernel, no padding.
bool joined_serves(const ConvShape& shape, ConvDirection direction);
// What it costs (cost.h).
double joined_steps(const ConvShape& shape, ConvDirection direction, index_t width);

}  // namespace cnncore
