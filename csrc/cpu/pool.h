// Max pooling over windows and over bins. Meaning: contract.py.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/taps.h"
#include "cnncore/view.h"

namespace cnncore {

// x (N, C, H, W), y and winners (N, C, OH, OW).
template <class T>
void max_pool2d(ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                ArrayView<std::int64_t> winners);

// x (N, C, H, W), image (R,), y and winners (R, C, PH, PW).
template <class T>
void bin_max(ArrayView<const T> x, ArrayView<const std::int64_t> image, const BinsView& rows,
             const BinsView& cols, ArrayView<T> y, ArrayView<std::int64_t> winners);

}  // namespace cnncore
