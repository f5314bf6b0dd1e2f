// Window arithmetic shared by host and device code: where a sliding window begins, which of its
// taps lie inside the plane. The Python twin is cnncore/geometry.py.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

CNNCORE_HD index_t ceil_div(index_t a, index_t b) {
  return (a + b - 1) / b;
}
CNNCORE_HD index_t min_of(index_t a, index_t b) {
  return a < b ? a : b;
}
CNNCORE_HD index_t max_of(index_t a, index_t b) {
  return a > b ? a : b;
}
CNNCORE_HD index_t round_up(index_t a, index_t b) {
  return ceil_div(a, b) * b;
}

// One axis of a window.
struct Window1d {
  index_t kernel = 1, stride = 1, before = 0, after = 0, dilation = 1;

  CNNCORE_HD index_t extent() const { return dilation * (kernel - 1) + 1; }

  // Windows that fit into a plane of `size`; 0 where the kernel is larger than the padded plane.
  CNNCORE_HD index_t output_size(index_t size) const {
    const index_t room = size + before + after - extent();
    return room < 0 ? 0 : room / stride + 1;
  }
  // Input coordinate of the first tap of window `output` (negative inside the padding).
  CNNCORE_HD index_t start(index_t output) const { return output * stride - before; }
  // Input coordinate of tap `tap` of window `output`.
  CNNCORE_HD index_t input(index_t output, index_t tap) const {
    return start(output) + tap * dilation;
  }
  // The taps of window `output` that lie inside 0..size: first <= tap < last.
  CNNCORE_HD void taps_inside(index_t output, index_t size, index_t& first, index_t& last) const {
    const index_t begin = start(output);
    first = begin >= 0 ? 0 : ceil_div(-begin, dilation);
    last = begin >= size ? 0 : min_of(kernel, ceil_div(size - begin, dilation));
    if (first > last) first = last;
  }
  // The windows whose tap `tap` lies inside 0..size: first <= output < last, last <= count.
  CNNCORE_HD void outputs_inside(index_t tap, index_t size, index_t count, index_t& first,
                                 index_t& last) const {
    const index_t shift = tap * dilation - before;  // input = output * stride + shift
    first = shift >= 0 ? 0 : ceil_div(-shift, stride);
    last = shift >= size ? 0 : min_of(count, ceil_div(size - shift, stride));
    if (first > last) first = last;
  }
};

struct Window2d {
  Window1d h, w;
};

}  // namespace cnncore
