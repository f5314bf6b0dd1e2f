// The weights of a convolution as panels of the micro-kernel, forwards and for its transpose.
#pragma once

#include <vector>

#include "cpu/conv/shape.h"
#include "cpu/planes.h"

namespace cnncore {

// What the outputs of one axis read.
AxisTaps forward_taps(const Window1d& window);

// One phase of a strided transpose along one axis: input pixels phase, phase + stride, … see the
// taps k with (phase + before - k d) divisible by the stride, at output (phase + before - k d)/s.
struct Phase {
  index_t first;                // first input pixel
  std::vector<index_t> kernel;  // the taps
  AxisTaps taps;
  index_t count;  // pixels
};

std::vector<Phase> phases_of(const Window1d& window, index_t size);

// Group after group: rows (c, kh, kw), columns o.
template <class T>
index_t forward_panels_size(const ConvShape& shape);
template <class T>
void pack_forward(const ConvShape& shape, const T* weight, T* panels);

// Group after group, in a group phase after phase (those of the rows outermost): rows (o, kh, kw),
// columns c.
template <class T>
index_t transpose_group_size(const ConvShape& shape);
template <class T>
index_t transpose_panels_size(const ConvShape& shape);
template <class T>
void pack_transpose(const ConvShape& shape, const T* weight, T* panels);

}  // namespace cnncore
