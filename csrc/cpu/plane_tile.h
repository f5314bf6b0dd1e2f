// The micro-kernel of convolutions whose results are stored as they are computed: rows are output
// channels, lanes are neighbouring pixels.
//
//   target[r][p] = bias[r] + sum over k of weights[k][r] * source[offset[k] + p]
//
// The other micro-kernel (tile.h) has pixels as rows and channels as lanes; its results must be
// transposed before they can be written to planes. Here each vector of the source is used for all
// rows, each weight is one broadcast, and nothing is left to do.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

constexpr int kMaxPlaneRows = 14;
constexpr int kLineBytes = 64;  // of a cache

template <class T>
struct PlaneTileArgs {
  const T* weights;  // depth x pitch
  const T* source;
  const index_t* offset;  // of each step along the sum; null: panels of two vectors, side by side
  index_t depth;
  const T* bias;  // of each row; may be null
  T* target;
  index_t target_stride;           // from row to row
  index_t lanes;                   // pixels, at most 2 vectors; nothing beyond is read or written
  const T* ahead;                  // asked for at the same offsets meanwhile; never read
  const index_t* place = nullptr;  // of run_pairs: where in the target each pair of rows goes
};

template <class T>
struct PlaneTileKernels {
  using Run = void (*)(const PlaneTileArgs<T>&);

  int rows;                             // most rows of one tile
  int width;                            // lanes of one vector
  int pitch;                            // of the packed weights
  Run run[2][2][2][kMaxPlaneRows + 1];  // [panels][vectors - 1][whole][rows]
  // Rows 2 q and 2 q + 1 interleaved, at target + place[q], from panels; whole vectors are written.
  Run run_pairs[2][kMaxPlaneRows / 2 + 1];  // [vectors - 1][pairs]
  // out[i * pitch + r] = in[r * in_stride + i], r < rows, i < count; other lanes are undefined
  void (*pack)(const T* in, index_t in_stride, index_t rows, index_t count, T* out);
  // to[t * pitch + i] = from[t * 2 * width + i], i < 2 * width, `count` elements in all
  void (*split)(const T* from, index_t count, T* to, index_t pitch);
  // to[2 i] = even[i], to[2 i + 1] = odd[i], i < count
  void (*interleave)(const T* even, const T* odd, index_t count, T* to);
  // to[i] = from[2 i], i < count
  void (*skip)(const T* from, index_t count, T* to);

  index_t blocks(index_t outputs) const { return ceil_div(outputs, rows); }
  // Rows of output channels are split evenly: block b begins at output first_row(b, outputs).
  index_t first_row(index_t block, index_t outputs) const {
    return outputs * block / max_of(1, blocks(outputs));
  }
};

CNNCORE_DECLARE_FOR_EACH_ISA(const PlaneTileKernels<float>& plane_tile_kernels_f32())
CNNCORE_DECLARE_FOR_EACH_ISA(const PlaneTileKernels<double>& plane_tile_kernels_f64())

template <class T>
const PlaneTileKernels<T>& plane_tile_kernels();
template <>
inline const PlaneTileKernels<float>& plane_tile_kernels<float>() {
  return CNNCORE_SELECT_ISA(plane_tile_kernels_f32)();
}
template <>
inline const PlaneTileKernels<double>& plane_tile_kernels<double>() {
  return CNNCORE_SELECT_ISA(plane_tile_kernels_f64)();
}

}  // namespace cnncore
