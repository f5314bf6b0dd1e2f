// The engine under conv2d_weight.
#pragma once

#include "cpu/conv/shape.h"

namespace cnncore {

// gweight (O, C/G, KH, KW) of x (N, C, H, W) and gy (N, O, OH, OW).
template <class T>
void correlate_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight);

}  // namespace cnncore
