// Resampling with channels side by side; see resample_block.cpp.
#pragma once

#include "cnncore/view.h"
#include "cpu/axis.h"
#include "cpu/regions.h"

namespace cnncore {

// Whether turning the planes into blocks of channels is paid for by what is read from them.
bool worth_blocks(index_t images, index_t channels, index_t pixels, index_t regions,
                  index_t outputs);

// As resample and resample_adjoint; `work` estimates the multiply-adds of one plane.
template <class T>
void resample_blocks(ArrayView<const T> x, const ArrayView<const std::int64_t>& image,
                     const Axis<T>& rows, const Axis<T>& cols, index_t work, ArrayView<T> y);
template <class T>
void resample_blocks_adjoint(ArrayView<const T> gy, const RegionLists& regions, const Axis<T>& rows,
                             const Axis<T>& cols, ArrayView<T> gx);

}  // namespace cnncore
