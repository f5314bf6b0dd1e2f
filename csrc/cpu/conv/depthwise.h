// The loops under "depthwise" (depthwise.cpp): one plane of the source, one plane of the result,
// and then the next of each.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

template <class T>
struct DepthwisePlane {
  Window2d window;
  index_t height, width, oh, ow;  // of the plane of x, of the plane of y
  index_t first, last;            // rows to compute (the weight gradient: rows of y to sum over)
  const T* weight;                // KH x KW
  const T* bias;                  // one number, or null
  bool accumulate;                // add to what is there instead of to the bias

  CNNCORE_HD T start() const { return bias != nullptr ? *bias : T(0); }
  CNNCORE_HD void next() {
    weight += window.h.kernel * window.w.kernel;
    if (bias != nullptr) ++bias;
  }
};

// Planes of several images, for the sums of the weight gradient.
template <class T>
struct DepthwiseSum {
  index_t images, x_stride, y_stride;
};

// All for `planes` planes that lie one after the other in memory, as do their filters and biases.
template <class T>
struct DepthwiseKernels {
  // x -> y and y -> x, rows first..last of the result
  void (*forward)(DepthwisePlane<T> plane, index_t planes, const T* x, T* y);
  void (*transpose)(DepthwisePlane<T> plane, index_t planes, const T* y, T* x);
  // gweight[KH][KW] = sum over images and rows first..last of y
  void (*weight)(const DepthwisePlane<T>& plane, const DepthwiseSum<T>& sum, index_t planes,
                 const T* x, const T* gy, T* gweight);
};

// For planes like this one. Those for 3x3 and 5x5 with stride 1 and 2, and for 7x7 with stride 1,
// know their window at compile time.
CNNCORE_DECLARE_FOR_EACH_ISA(
    template <class T> DepthwiseKernels<T> depthwise_kernels(const DepthwisePlane<T>& plane))

}  // namespace cnncore
