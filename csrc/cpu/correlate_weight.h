// The engine under conv2d_weight.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

struct ConvShape {
  index_t images, channels, height, width;  // of the input, all groups together
  index_t outputs, groups;
  Window2d window;

  index_t oh() const { return window.h.output_size(height); }
  index_t ow() const { return window.w.output_size(width); }
  index_t taps() const { return window.h.kernel * window.w.kernel; }
  index_t group_channels() const { return channels / groups; }
  index_t group_outputs() const { return outputs / groups; }
};

// gweight (O, C/G, KH, KW) of x (N, C, H, W) and gy (N, O, OH, OW).
template <class T>
void correlate_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight);

}  // namespace cnncore
