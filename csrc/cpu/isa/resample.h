// One sparse matrix along an axis in the form the loops read; built by cpu/axis.cpp.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

// Loops over outputs run in blocks of this many, the last one padded.
constexpr index_t kAxisBlock = 16;
constexpr index_t kLines = 4;  // rows of outputs worked on at a time

// y[p] = Σ_t weight[t · pitch + p] · x[low + index[t · pitch + p]] for p of begin..begin+length.
//
// Tap-major, so that loops run over positions. A position with fewer taps than `taps` points at
// slot `span`, where the reader keeps a zero: nothing outside the valid taps is ever read. The
// padding beyond `length` points at slot 0.
template <class T>
struct AxisGroup {
  index_t begin = 0, length = 0;  // outputs covered
  index_t pitch = 0;              // length in whole blocks
  index_t low = 0, span = 0;      // inputs read: low <= i < low + span
  index_t taps = 0;               // the largest count of any position
  const std::int32_t* index = nullptr;
  const T* weight = nullptr;
  const std::int32_t* count = nullptr;  // (length,)
  bool full = false;                    // every position has `taps` taps: slot `span` is never read
  // Where the weights of a tap are the same at every position, the common layouts need no indices:
  // step > 0: index = step · p + offset of the tap (average pooling; nearest, transposed);
  // repeat == 2: one tap, index = p / 2 (nearest upsampling).
  index_t step = 0, repeat = 0;
  // Where the inputs of every block of outputs lie side by side, tap for tap, two vectors of
  // kAxisBlock inputs hold them: those from window[t · pitch / kAxisBlock + block]; else null.
  const std::int32_t* window = nullptr;

  // Elements of a line that holds the span, the zero slot, and two vectors from any window on.
  CNNCORE_HD index_t line() const { return round_up(span + 1, kAxisBlock) + 2 * kAxisBlock; }
};

// What one plane of input does to one plane of output.
template <class T>
struct PlanePair {
  const T* x;
  index_t x_stride;
  const T* x_end;  // of the whole array: vectors may read beyond a row, not beyond this
  T* y;
  index_t y_stride;
  bool accumulate;
};

}  // namespace cnncore
