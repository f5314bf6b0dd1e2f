// Arrays between the layers of a compiled network: (N, C/B, H, W, B), B the lanes of one vector.
//
// A pixel's channels lie side by side, B at a time; the last block is filled up with zeros or with
// whatever a layer makes of them, which no other layer reads. Results of the micro-kernel are
// stored as they are, without a transpose, and every other kernel works on whole vectors.
#pragma once

#include "cnncore/geometry.h"
#include "cpu/tile.h"

namespace cnncore {

// Channels of a block: the lanes of one vector of the instruction set in use.
template <class T>
index_t block_lanes() {
  return tile_kernels<T>().width;
}

struct BlockedShape {
  index_t images, channels, height, width;
  index_t pixels() const { return height * width; }
};

}  // namespace cnncore
