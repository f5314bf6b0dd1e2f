// The transpose of a convolution with kernels of one pixel and a stride (the input gradient of the
// shortcuts in ResNet): the form "direct" takes for it.
#pragma once

#include <memory>

#include "cpu/conv/algorithm.h"

namespace cnncore {

bool is_strided_transpose(const ConvShape& shape, ConvDirection direction);

// The same without its stride: what is left to compute.
ConvShape without_stride(const ConvShape& shape);

// What it costs beyond that (cost.h).
double strided_transpose_steps(const ConvShape& shape, index_t width);

template <class T>
std::unique_ptr<ConvLayer<T>> strided_transpose(const ConvShape& shape, const T* weight,
                                                const T* bias, bool once);

}  // namespace cnncore
