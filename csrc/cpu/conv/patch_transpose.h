// A transposed convolution whose taps do not overlap (2 x 2 with stride 2, as in U-Net): the form
// "direct" takes for it.
#pragma once

#include <memory>

#include "cpu/conv/algorithm.h"

namespace cnncore {

bool is_patch_transpose(const ConvShape& shape, ConvDirection direction);

// What it costs (cost.h).
double patch_transpose_steps(const ConvShape& shape, index_t width);

template <class T>
std::unique_ptr<ConvLayer<T>> patch_transpose(const ConvShape& shape, const T* weight,
                                              const T* bias);

}  // namespace cnncore
