// Where the elements of an implicit matrix lie in memory: the index arithmetic of the tiled
// products.
//
// A convolution is a matrix product C = A B in which a factor is never written down: its element
// (r, k) is a pixel of a plane, or zero where the window hangs over the edge. Both r and k stand
// for three counters (an image, a row, a column; or a channel, a filter row, a filter column), and
// what each contributes only has to be added:
//
//   offset = offset(r) + offset(k),   h = h(r) + h(k),   w = w(r) + w(k),   zero unless h, w inside
//
// So a thread decodes r and k once (a `Site` each: that is where the divisions are), keeps both in
// shared memory, and an element costs three additions and two comparisons. Plain matrices, packed
// weights and results are the same thing with planes of one pixel.
#pragma once

#include "cnncore/macros.h"

namespace cnncore::cuda {

// Added to anything legal this stays outside every plane: coordinates are below 2^29 (see
// fits_tiles in products.h).
constexpr std::int32_t kOutside = -(1 << 30);

struct alignas(16) Site {
  index_t offset;
  std::int32_t h, w;
};

// index = (a nb + b) nc + c.
struct Axis3 {
  std::uint32_t count = 0, nb = 1, nc = 1;
  index_t start = 0, step_a = 0, step_b = 0, step_c = 0;  // elements
  std::int32_t h0 = 0, ha = 0, hb = 0;                    // rows of the plane
  std::int32_t w0 = 0, wb = 0, wc = 0;                    // columns of the plane

  CNNCORE_HD Site site(std::uint32_t index) const {
    if (index >= count) return {0, kOutside, kOutside};
    const std::uint32_t rest = index / nc, a = rest / nb;
    const auto ia = static_cast<std::int32_t>(a);
    const auto ib = static_cast<std::int32_t>(rest - a * nb);
    const auto ic = static_cast<std::int32_t>(index - rest * nc);
    return {start + ia * step_a + ib * step_b + ic * step_c, h0 + ia * ha + ib * hb,
            w0 + ib * wb + ic * wc};
  }
};

// count elements `step` apart.
CNNCORE_HD Axis3 line(index_t count, index_t step, index_t start = 0) {
  Axis3 axis;
  axis.count = static_cast<std::uint32_t>(count);
  axis.nc = axis.count > 0 ? axis.count : 1;
  axis.start = start;
  axis.step_c = step;
  return axis;
}

// count runs of `length` elements `step` apart, `stride` from one run to the next.
CNNCORE_HD Axis3 runs(index_t count, index_t stride, index_t length, index_t step) {
  Axis3 axis;
  axis.count = static_cast<std::uint32_t>(count * length);
  axis.nc = static_cast<std::uint32_t>(length > 0 ? length : 1);
  axis.step_a = stride;
  axis.step_c = step;
  return axis;
}

struct Operand {
  Axis3 row, depth;
  std::int32_t height = 1, width = 1;  // of the plane that the coordinates belong to

  // Elements from the start of the array, or -1 for zero.
  CNNCORE_HD index_t find(const Site& r, const Site& k) const {
    const auto h = static_cast<std::uint32_t>(r.h + k.h);
    const auto w = static_cast<std::uint32_t>(r.w + k.w);
    const bool inside =
        h < static_cast<std::uint32_t>(height) && w < static_cast<std::uint32_t>(width);
    return inside ? r.offset + k.offset : -1;
  }
};

// C[row, column] = Σ_depth A[row, depth] B[column, depth]; element (row, column) of the result lies
// at row · row_step + column's offset, its bias is number bias + row.
struct Product {
  Operand a, b;
  Axis3 column;
  index_t row_step = 0, bias = 0;

  CNNCORE_HD std::uint32_t rows() const { return a.row.count; }
  CNNCORE_HD std::uint32_t columns() const { return b.row.count; }
  CNNCORE_HD std::uint32_t depth() const { return a.depth.count; }
};

}  // namespace cnncore::cuda
