// The transforms of Winograd convolution on vectors whose lanes are channels, per instruction set.
// What they compute stands in winograd.h; the plain numbers stand in isa/winograd.cpp.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

constexpr int kMaxPoints = 6, kMaxOutputs = 6;

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
// In `phases`, filters of 4 x 4 taps for a transpose with stride 2 are four of 2 x 2, one for each
// parity of row and column of the results; all read the same tile. e then counts the products of
// one after the other, and m x m are the results of all.
template <class T>
struct WinogradForm {
  int outputs, taps, points;  // m, taps of the caller's filter, n
  int step;                   // pixels from one tile to the next
  int products;               // n n, or 4 n n

  // v[e * stride + tile * next] = Bᵀ d B, or A d Aᵀ, of the tile's n x n (or m x m) pixels
  using Expand = void (*)(const WinogradRows<T>& rows, T* v, index_t stride, index_t next);
  Expand input, gradient;

  // out[i * pitch + (tile * m + j) * width] = bias + Aᵀ p A, p = products[e * stride + tile *
  // next]. Tiles are written last to first and a tile's rows first to last, so that with a pitch of
  // less than the tiles' width the columns too many of the last tile are overwritten.
  void (*output)(const T* products, index_t stride, index_t next, index_t tiles, const T* bias,
                 T* out, index_t pitch);

  // u[e * stride + k * next] = G g Gᵀ for depth k < count: from filters, or from what pack() made.
  void (*weights)(const WinogradFilters<T>& filters, index_t count, T* u, index_t stride,
                  index_t next);
  void (*packed_weights)(const T* packed, index_t packed_next, index_t count, T* u, index_t stride,
                         index_t next);
  // packed[k * next + t * width]: tap t as a vector
  void (*pack)(const WinogradFilters<T>& filters, index_t count, T* packed, index_t next);

  // out[(k * r * r + t) * width] = Gᵀ p G, p = products[e * stride + k * next]; not for phases
  void (*weight_gradient)(const T* products, index_t stride, index_t next, index_t count, T* out);
};

template <class T>
struct WinogradKernels {
  int width;  // lanes of a vector
  WinogradForm<T> four, two, phases;

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
