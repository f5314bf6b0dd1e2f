// Overlap of boxes x1 y1 x2 y2, for host and device code.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

template <class T>
CNNCORE_HD T box_area(T x1, T y1, T x2, T y2) {
  return (x2 - x1) * (y2 - y1);
}

// Intersection over union; boxes without any area, or with a NaN, give 0.
template <class T>
CNNCORE_HD T box_overlap(T ax1, T ay1, T ax2, T ay2, T a_area, T bx1, T by1, T bx2, T by2,
                         T b_area) {
  const T left = ax1 > bx1 ? ax1 : bx1, top = ay1 > by1 ? ay1 : by1;
  const T right = ax2 < bx2 ? ax2 : bx2, bottom = ay2 < by2 ? ay2 : by2;
  const T width = right - left, height = bottom - top;
  const T both = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
  const T either = (a_area + b_area) - both;
  return either > T(0) ? both / either : T(0);
}

}  // namespace cnncore
