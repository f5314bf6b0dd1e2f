// The gradients of convolutions with one or two channels a group (depthwise): plain loops over
// rows, since such a layer has too few products per pixel for a matrix kernel. Forwards:
// depthwise.h.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

// One input plane and one output plane.
template <class T>
struct DirectPlanes {
  Window2d window;
  index_t height, width, oh, ow;
};

template <class T>
struct DirectKernels {
  using Run = void (*)(const DirectPlanes<T>& planes, const T* from, const T* with, T* to);
  Run transpose;  // gx += weightᵀ * gy:    from gy, with weight, to gx
  Run weight;     // gweight += x * gy:     from x, with gy, to gweight
};

CNNCORE_DECLARE_FOR_EACH_ISA(DirectKernels<float> direct_kernels_f32())
CNNCORE_DECLARE_FOR_EACH_ISA(DirectKernels<double> direct_kernels_f64())

template <class T>
DirectKernels<T> direct_kernels();
template <>
inline DirectKernels<float> direct_kernels<float>() {
  return CNNCORE_SELECT_ISA(direct_kernels_f32)();
}
template <>
inline DirectKernels<double> direct_kernels<double>() {
  return CNNCORE_SELECT_ISA(direct_kernels_f64)();
}

}  // namespace cnncore
