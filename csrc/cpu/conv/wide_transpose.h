// A transposed convolution whose stride is as wide as a vector: the form "direct" takes for it.
#pragma once

#include <memory>

#include "cpu/conv/algorithm.h"

namespace cnncore {

// `width`: lanes of a vector.
bool is_wide_transpose(const ConvShape& shape, ConvDirection direction, index_t width);

// `once`: the weights are not copied; they stay as they are while the layer lives.
template <class T>
std::unique_ptr<ConvLayer<T>> wide_transpose(const ConvShape& shape, const T* weight, const T* bias,
                                             bool once);

}  // namespace cnncore
