// What a convolution is, before anybody decides how to compute it; for host and device code.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

struct ConvShape {
  index_t images, channels, height, width;  // of the input, all groups together
  index_t outputs, groups;
  Window2d window;

  CNNCORE_HD index_t oh() const { return window.h.output_size(height); }
  CNNCORE_HD index_t ow() const { return window.w.output_size(width); }
  CNNCORE_HD index_t taps() const { return window.h.kernel * window.w.kernel; }
  CNNCORE_HD index_t group_channels() const { return channels / groups; }
  CNNCORE_HD index_t group_outputs() const { return outputs / groups; }
  // Elements of x (N, C, H, W), y (N, O, OH, OW) and weight (O, C/G, KH, KW).
  CNNCORE_HD index_t input_size() const { return images * channels * height * width; }
  CNNCORE_HD index_t output_size() const { return images * outputs * oh() * ow(); }
  CNNCORE_HD index_t weight_size() const { return outputs * group_channels() * taps(); }
};

// The three kernels of the family, each the derivative of the others, by what they compute.
enum class ConvDirection {
  output,  // x, weight -> y: conv2d
  input,   // y, weight -> x: conv_transpose2d, the gradient towards the input
  weight,  // x, y -> weight: the gradient towards the weights
};

}  // namespace cnncore
