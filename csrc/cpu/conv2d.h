// The convolution family: each kernel is the derivative of the other two.
#pragma once

#include "cpu/correlate_weight.h"

namespace cnncore {

enum class ConvAlgorithm { automatic, im2col, implicit_gemm };

// x (N, C, H, W), weight (O, C/G, KH, KW), bias (O) or null -> y (N, O, OH, OW)
template <class T>
void conv2d(const ConvShape& shape, const T* x, const T* weight, const T* bias, T* y,
            ConvAlgorithm algorithm);

// y (N, O, OH, OW), weight (O, C/G, KH, KW), bias (C) or null -> x (N, C, H, W)
template <class T>
void conv_transpose2d(const ConvShape& shape, const T* y, const T* weight, const T* bias, T* x,
                      ConvAlgorithm algorithm);

// x (N, C, H, W), gy (N, O, OH, OW) -> gweight (O, C/G, KH, KW)
template <class T>
void conv2d_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight,
                   ConvAlgorithm algorithm);

}  // namespace cnncore
