// Gather along the middle axis and its transpose. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"

namespace cnncore {

// x (O, A, I), index (O or 1, J, I or 1), y (O, J, I).
template <class T>
void gather(ArrayView<const T> x, ArrayView<const std::int64_t> index, ArrayView<T> y);

// src (O, J, I), index as above, y (O, size, I); whether -1 is skipped or refused.
template <class T>
void scatter_add(ArrayView<const T> src, ArrayView<const std::int64_t> index, bool skips,
                 ArrayView<T> y);

// The same for the bins of regions: image (R,), switches and y (R, C, PH, PW), flat in their plane
// of x (N, C, H, W).
template <class T>
void region_gather(ArrayView<const T> x, ArrayView<const std::int64_t> image,
                   ArrayView<const std::int64_t> switches, ArrayView<T> y);
template <class T>
void region_scatter(ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                    ArrayView<const std::int64_t> switches, ArrayView<T> gx);

}  // namespace cnncore
