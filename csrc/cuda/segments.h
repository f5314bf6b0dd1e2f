// Adding up what meets in one place, without atomics, on a device.
#pragma once

#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

// y[target[i]] = Σ src[source[j]] over the run of equal targets that begins at i. Targets ascend;
// what is no target is left alone. Sums are in the order of j.
template <class T>
void add_segments(const Queue& queue, ArrayView<const T> src, ArrayView<const std::int64_t> source,
                  ArrayView<const std::int64_t> target, ArrayView<T> y);

}  // namespace cnncore::cuda
