// Overlaps of boxes and greedy suppression on a device. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

constexpr index_t kNmsTile = 64;     // boxes that one word of 64 bits speaks of
constexpr index_t kNmsStrip = 8192;  // rows of the table of overlaps that exist at a time

// a (M, 4), b (N, 4), y (M, N).
template <class T>
void box_iou(const Queue& queue, ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y);

// Boxes (N, 4) from the best score to the worst; kept (N,) becomes 1 or 0. Room to work in:
// overlaps (min(N, kNmsStrip), ceil(N/64)) words and gone (ceil(N/64)) words, the latter zero.
template <class T>
void nms(const Queue& queue, ArrayView<const T> boxes, double iou_threshold,
         ArrayView<std::uint64_t> overlaps, ArrayView<std::uint64_t> gone,
         ArrayView<std::uint8_t> kept);

}  // namespace cnncore::cuda
