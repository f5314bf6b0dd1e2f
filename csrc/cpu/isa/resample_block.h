// What one block of channels of the input does to one of the output; see cpu/resample_block.cpp.
#pragma once

#include "cpu/isa/resample.h"

namespace cnncore {

constexpr index_t kChannelBlock = 16;  // channels that lie side by side

// Pixels are blocks of channels, rows of pixels lie x_width and y_width apart.
template <class T>
struct BlockPair {
  const T* x;
  index_t x_width;
  T* y;
  index_t y_width;
  bool accumulate;
};

}  // namespace cnncore
