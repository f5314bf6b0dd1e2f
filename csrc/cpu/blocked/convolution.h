// Convolutions on blocked arrays, with weights packed once.
#pragma once

#include <memory>

#include "cpu/blocked/layout.h"
#include "cpu/conv/winograd.h"

namespace cnncore {

// A convolution of one shape, or its transpose, with weights packed once. The source is blocked, or
// (for the first layer) planar; the result is blocked. Winograd's transforms where "auto" would
// take them (conv/select.h), the micro-kernel on the pixels as they are (job.h) elsewhere.
template <class T>
class BlockedConvolution {
 public:
  using Element = T;

  BlockedConvolution(const ConvShape& shape, bool transposed, bool planar_source, const T* weight,
                     const T* bias);

  // Whether a shape can be served: one group, groups of whole blocks, or depthwise (not
  // transposed, source blocked).
  static bool serves(const ConvShape& shape, bool transposed, bool planar_source);

  // scale: null, or (N, C/B, B) that the source is multiplied by first; one group, blocked source,
  // a single tap.
  void run(const T* from, const Finish<T>& finish, T* to, const T* scale = nullptr) const;
  bool scales() const { return s_.groups == 1 && s_.taps() == 1 && !planar_; }

  BlockedShape source() const;
  BlockedShape target() const;
  bool planar_source() const { return planar_; }
  std::size_t bytes() const;

 private:
  ConvShape s_;
  bool transposed_, planar_, depthwise_;
  std::unique_ptr<Winograd<T>> winograd_;
  std::unique_ptr<Scratch<T>> packed_, bias_;  // where it is not Winograd's
};

}  // namespace cnncore
