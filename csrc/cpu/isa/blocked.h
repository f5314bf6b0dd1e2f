// The vector loops of cpu/blocked, one block of channels at a time.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

// A window sliding over one block's plane; results of rows `first` .. `last`.
template <class T>
struct BlockedRows {
  Window2d window;
  index_t height, width, out_width, first, last;
  const T* x;  // the whole plane
  T* y;        // its first row to be written
};

template <class T>
struct BlockedFinish {
  const T* residual;  // begins where y does; may be null
  const T* bias;      // one vector
  T low, high;
};

template <class T>
struct BlockedLoops {
  // weight: taps x B
  void (*depthwise)(const BlockedRows<T>&, const BlockedFinish<T>&, const T* weight);
  void (*pool_max)(const BlockedRows<T>&);
  void (*pool_mean)(const BlockedRows<T>&, index_t divisor);
  // y = clamp(x * a + bias + residual) over a run of pixels
  void (*affine)(const T* x, const T* a, const BlockedFinish<T>&, T* y, index_t pixels);
  void (*mean)(const T* x, index_t pixels, T* y);
  void (*copy_pixels)(const T* x, const index_t* columns, index_t count, T* y);
};

CNNCORE_DECLARE_FOR_EACH_ISA(const BlockedLoops<float>& blocked_loops_f32())
CNNCORE_DECLARE_FOR_EACH_ISA(const BlockedLoops<double>& blocked_loops_f64())

template <class T>
const BlockedLoops<T>& blocked_loops();
template <>
inline const BlockedLoops<float>& blocked_loops<float>() {
  return CNNCORE_SELECT_ISA(blocked_loops_f32)();
}
template <>
inline const BlockedLoops<double>& blocked_loops<double>() {
  return CNNCORE_SELECT_ISA(blocked_loops_f64)();
}

}  // namespace cnncore
