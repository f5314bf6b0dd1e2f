// Maxima of windows and bins, gather and its transpose on a device. Meaning: contract.py.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/taps.h"
#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

// x (N, C, H, W), y and winners (N, C, OH, OW).
template <class T>
void max_pool2d(const Queue& queue, ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                ArrayView<std::int64_t> winners);

// x (N, C, H, W), image (R,), y and winners (R, C, PH, PW); the bins' arrays are on the device.
template <class T>
void bin_max(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
             const BinsView& rows, const BinsView& cols, ArrayView<T> y,
             ArrayView<std::int64_t> winners);

// x (O, A, I), index (O or 1, J, I or 1), y (O, J, I).
template <class T>
void gather(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> index,
            ArrayView<T> y);

// src (O, J, I), index as above, y (O, size, I).
template <class T>
void scatter_add(const Queue& queue, ArrayView<const T> src, ArrayView<const std::int64_t> index,
                 ArrayView<T> y);

// x (N, C, H, W), image (R,), switches and y (R, C, PH, PW), and the transpose.
template <class T>
void region_gather(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
                   ArrayView<const std::int64_t> switches, ArrayView<T> y);
template <class T>
void region_scatter(const Queue& queue, ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                    ArrayView<const std::int64_t> switches, ArrayView<T> gx);

}  // namespace cnncore::cuda
