// The convolution family: each kernel is the derivative of the other two.
#pragma once

#include <string>

#include "cpu/conv/shape.h"
#include "cpu/finish.h"

namespace cnncore {

// `algorithm`: a name of conv_algorithms(), or "auto".

// x (N, C, H, W), weight (O, C/G, KH, KW), bias (O) or null -> y (N, O, OH, OW), finished
template <class T>
void conv2d(const ConvShape& shape, const T* x, const T* weight, const T* bias,
            const Finish<T>& finish, T* y, const std::string& algorithm);

// y (N, O, OH, OW), weight (O, C/G, KH, KW), bias (C) or null -> x (N, C, H, W), finished
template <class T>
void conv_transpose2d(const ConvShape& shape, const T* y, const T* weight, const T* bias,
                      const Finish<T>& finish, T* x, const std::string& algorithm);

// x (N, C, H, W), gy (N, O, OH, OW) -> gweight (O, C/G, KH, KW)
template <class T>
void conv2d_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight,
                   const std::string& algorithm);

}  // namespace cnncore
