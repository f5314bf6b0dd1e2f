// Windows of a plane as columns of a matrix, and the transpose.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

// x (planes, H, W) -> cols (planes, KH*KW, OH*OW); planes is N*C.
template <class T>
void im2col(const T* x, index_t planes, index_t height, index_t width, const Window2d& window,
            T* cols);

// cols (planes, KH*KW, OH*OW) -> x (planes, H, W), overlaps added to x's `initial` value:
// initial[plane % channels], or zero where it is null.
template <class T>
void col2im(const T* cols, index_t planes, index_t height, index_t width, const Window2d& window,
            T* x, const T* initial = nullptr, index_t channels = 1);

}  // namespace cnncore
