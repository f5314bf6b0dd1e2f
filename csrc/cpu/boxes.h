// Overlaps of boxes and greedy suppression. Meaning: contract.py.
#pragma once

#include <vector>

#include "cnncore/view.h"

namespace cnncore {

// a (M, 4), b (N, 4), y (M, N).
template <class T>
void box_iou(ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y);

template <class T>
std::vector<index_t> nms(ArrayView<const T> boxes, ArrayView<const T> scores, double iou_threshold);

}  // namespace cnncore
