// The transforms of Winograd convolution on vectors whose lanes are channels, per instruction set.
// What they compute stands in winograd.h; the plain numbers stand in isa/winograd.cpp.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

constexpr int kMaxPoints = 6;

// With stride 2 a filter of 3 or 4 taps an axis is four of two taps (of one, where three end), by
// the parity of their row and column: its phases. They stand in this order, in which those that
// have a product at infinity along the rows, the columns, or both, are neighbours.
struct WinogradPhase {
  int row, column;
};
constexpr WinogradPhase kWinogradPhases[4] = {{1, 0}, {0, 0}, {0, 1}, {1, 1}};

// Rows of pixels under a run of tiles: column x of row i is one vector at
// row[i] + (x - first) * step[i].
template <class T>
struct WinogradRows {
  const T* row[kMaxPoints];
  index_t step[kMaxPoints];  // 0 for a row of zeros
  index_t first, last;       // columns outside first..last are zero and not read
  index_t tiles;             // the tiles of the run begin at columns 0, m, 2m, …
};

// Filters in memory: tap t of (lane l, depth k) lies at data[l * lane + k * depth + t], in reverse
// order where `flip`.
template <class T>
struct WinogradFilters {
  const T* data;
  const T* end;  // of the array, not to be read past
  index_t lane, depth;
  int lanes;  // the others are zero
  bool flip;

  WinogradFilters at(index_t first_lane, index_t first_depth, index_t lane_count) const {
    WinogradFilters part = *this;
    part.data += first_lane * lane + first_depth * depth;
    part.lanes = static_cast<int>(lane_count);
    return part;
  }
};

// One form F(m x m, r x r): n = m + r - 1 points an axis, e = i * n + j counts the n x n products.
// A form for stride 2 has four phases, each F(m x m, 2 x 2) or less. Their filters' U lie `phase`
// apart. Which of them belong to the pixels and which to the results is up to the direction.
template <class T>
struct WinogradForm {
  int outputs, taps, points;  // m, taps of the caller's filter, n
  int phases;                 // 1 or 4

  // The phases that have a product at point e: first..last.
  struct Range {
    int first, last;
  };
  Range phases_at(int e) const {
    if (phases == 1 || taps == 4) return {0, phases};
    const bool last_row = e / points == points - 1, last_column = e % points == points - 1;
    return {last_row ? 1 : 0, last_column ? 2 : last_row ? 3 : 4};
  }
  // Products of a tile, a channel and an output.
  int products() const {
    int all = 0;
    for (int e = 0; e < points * points; ++e) all += phases_at(e).last - phases_at(e).first;
    return all;
  }

  // v[e * stride + tile * next] = Bᵀ d B, or A d Aᵀ, of the tile's n x n (or m x m) pixels
  using Expand = void (*)(const WinogradRows<T>& rows, T* v, index_t stride, index_t next);
  Expand input, gradient;
  Expand phase_input[4];  // of the pixels of one phase

  // out[i * pitch + (tile * m + j) * column] = bias + Aᵀ p A, p = products[e * stride + tile *
  // next]. Tiles are written last to first and a tile's rows first to last, so that with a pitch of
  // less than the tiles' width the columns too many of the last tile are overwritten.
  using Output = void (*)(const T* products, index_t stride, index_t next, index_t tiles,
                          const T* bias, T* out, index_t pitch, index_t column);
  Output output;
  // The same for results of four phases, side by side: 2 m instead of m, and n n products of each.
  Output phase_output;

  // u[phase + e * stride + k * next] = G g Gᵀ for depth k < count: from filters, or from what
  // pack() made.
  void (*weights)(const WinogradFilters<T>& filters, index_t count, T* u, index_t stride,
                  index_t next, index_t phase);
  void (*packed_weights)(const T* packed, index_t packed_next, index_t count, T* u, index_t stride,
                         index_t next, index_t phase);
  // packed[k * next + t * width]: tap t as a vector
  void (*pack)(const WinogradFilters<T>& filters, index_t count, T* packed, index_t next);

  // out[(k * taps * taps + t) * width] = Gᵀ p G, p = products[(phase * n n + e) * stride + k *
  // next]
  void (*weight_gradient)(const T* products, index_t stride, index_t next, index_t count, T* out);
};

template <class T>
struct WinogradKernels {
  int width;                     // lanes of a vector
  WinogradForm<T> four, two;     // F(4 x 4, 3 x 3), F(2 x 2, 3 x 3)
  WinogradForm<T> phases[2][2];  // [m - 3][taps - 3]

  // out[p * width + l] = planes[l * stride + p] for p < pixels, l < lanes; the other lanes are 0
  void (*gather)(const T* planes, index_t stride, index_t lanes, index_t pixels, T* out);
  // planes[l * stride + p] = in[p * width + l]
  void (*scatter)(const T* in, index_t lanes, index_t pixels, T* planes, index_t stride);
};

CNNCORE_DECLARE_FOR_EACH_ISA(const WinogradKernels<float>& winograd_kernels_f32())
CNNCORE_DECLARE_FOR_EACH_ISA(const WinogradKernels<double>& winograd_kernels_f64())

template <class T>
const WinogradKernels<T>& winograd_kernels();
template <>
inline const WinogradKernels<float>& winograd_kernels<float>() {
  return CNNCORE_SELECT_ISA(winograd_kernels_f32)();
}
template <>
inline const WinogradKernels<double>& winograd_kernels<double>() {
  return CNNCORE_SELECT_ISA(winograd_kernels_f64)();
}

}  // namespace cnncore
