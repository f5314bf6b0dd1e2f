// Weights as a layer keeps them.
#pragma once

#include <algorithm>

#include "cnncore/memory_pool.h"
#include "cpu/conv/algorithm.h"

namespace cnncore {

// `count` elements of the layer's own; data() is null where there are none to keep.
template <class T>
class Kept {
 public:
  Kept(const T* from, index_t count) : Kept(from != nullptr ? count : 0) {
    if (count_ > 0) std::copy_n(from, count_, elements_.data());
  }
  explicit Kept(index_t count) : elements_(count), count_(count) {}

  T* data() { return count_ > 0 ? elements_.data() : nullptr; }
  const T* data() const { return count_ > 0 ? elements_.data() : nullptr; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }

 private:
  Scratch<T> elements_;
  index_t count_;
};

// The bias is of the channels that come out.
template <class T>
Kept<T> keep_bias(const ConvShape& shape, ConvDirection direction, const T* bias) {
  return {bias, direction == ConvDirection::output ? shape.outputs : shape.channels};
}

}  // namespace cnncore
