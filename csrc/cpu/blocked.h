// Arrays between the layers of a compiled network: (N, C/B, H, W, B), B the lanes of one vector.
//
// A pixel's channels lie side by side, B at a time; the last block is filled up with zeros or with
// whatever a layer makes of them, which no other layer reads. Results of the micro-kernel are
// stored as they are, without a transpose, and every other kernel works on whole vectors.
#pragma once

#include <memory>
#include <vector>

#include "cnncore/memory_pool.h"
#include "cpu/conv/shape.h"
#include "cpu/finish.h"

namespace cnncore {

// Channels of a block: the lanes of one vector of the instruction set in use.
template <class T>
index_t block_lanes();

struct BlockedShape {
  index_t images, channels, height, width;
  index_t pixels() const { return height * width; }
};

// (N, C, H, W) <-> (N, C/B, H, W, B)
template <class T>
void to_blocked(const BlockedShape& shape, const T* x, T* y);
template <class T>
void from_blocked(const BlockedShape& shape, const T* x, T* y);

// A convolution of one shape, or its transpose, with weights packed once. The source is blocked, or
// (for the first layer) planar; the result is blocked.
template <class T>
class BlockedConvolution {
 public:
  using Element = T;

  BlockedConvolution(const ConvShape& shape, bool transposed, bool planar_source, const T* weight,
                     const T* bias);

  // Whether a shape can be served: one group, groups of whole blocks, or depthwise (not
  // transposed, source blocked).
  static bool serves(const ConvShape& shape, bool transposed, bool planar_source);

  void run(const T* from, const Finish<T>& finish, T* to) const;

  BlockedShape source() const;
  BlockedShape target() const;
  bool planar_source() const { return planar_; }
  std::size_t bytes() const { return packed_->bytes(); }

 private:
  ConvShape s_;
  bool transposed_, planar_, depthwise_;
  std::unique_ptr<Scratch<T>> packed_, bias_;
};

// Maximum, or mean over `divisor` (0: over the pixels that exist), of each window.
template <class T>
void blocked_pool(const BlockedShape& shape, const Window2d& window, index_t out_height,
                  index_t out_width, bool maximum, index_t divisor, const T* x, T* y);

// Mean of each plane: (N, C/B, 1, 1, B).
template <class T>
void blocked_mean(const BlockedShape& shape, const T* x, T* y);

// y = f(x * a + b), a and b per channel (C/B, B), or a per image and channel (N, C/B, B); b may be
// null.
template <class T>
void blocked_affine(const BlockedShape& shape, const T* x, const T* a, bool a_per_image, const T* b,
                    const Finish<T>& finish, T* y);

// y[h, w] = x[rows[h], columns[w]]
template <class T>
void blocked_select(const BlockedShape& shape, const std::vector<index_t>& rows,
                    const std::vector<index_t>& columns, const T* x, T* y);

}  // namespace cnncore
