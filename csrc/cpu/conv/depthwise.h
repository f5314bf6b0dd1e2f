// "depthwise": convolutions with one or two channels a group: too few products per pixel for a
// matrix kernel.
//
// A band of a plane is copied with its zeros around it, split into the phases of the stride; then
// every tap of all outputs of the band reads one contiguous run, and the layer is a short filter
// over a line:  line[i] = bias + sum over t of weight[t] * band[offset[t] + i].
// Between two rows of outputs the line holds a few values that belong to nobody.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

// Writes line[0 .. n rounded up to whole vectors), reads as far beyond offset[t] + n.
template <class T>
using FilterLine = void (*)(const T* band, const index_t* offset, const T* weight, index_t taps,
                            T bias, T* line, index_t n);

constexpr index_t kFilterLanes = 64;  // elements that FilterLine may touch beyond n

}  // namespace cnncore
