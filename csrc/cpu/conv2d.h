// The convolution family: each kernel is the derivative of the other two.
#pragma once

#include <memory>
#include <vector>

#include "cnncore/memory_pool.h"
#include "cpu/correlate_weight.h"
#include "cpu/finish.h"

namespace cnncore {

enum class ConvAlgorithm { automatic, im2col, implicit_gemm };

// x (N, C, H, W), weight (O, C/G, KH, KW), bias (O) or null -> y (N, O, OH, OW), finished
template <class T>
void conv2d(const ConvShape& shape, const T* x, const T* weight, const T* bias,
            const Finish<T>& finish, T* y, ConvAlgorithm algorithm);

// y (N, O, OH, OW), weight (O, C/G, KH, KW), bias (C) or null -> x (N, C, H, W), finished
template <class T>
void conv_transpose2d(const ConvShape& shape, const T* y, const T* weight, const T* bias,
                      const Finish<T>& finish, T* x, ConvAlgorithm algorithm);

// x (N, C, H, W), gy (N, O, OH, OW) -> gweight (O, C/G, KH, KW)
template <class T>
void conv2d_weight(const ConvShape& shape, const T* x, const T* gy, T* gweight,
                   ConvAlgorithm algorithm);

// A convolution, or its transpose, of one shape with weights of its own, packed once: for running
// the same layer many times. run() may be called from several threads at once.
template <class T>
class PreparedConvolution {
 public:
  using Element = T;
  enum class Direction { forward, transposed };

  PreparedConvolution(const ConvShape& shape, Direction direction, const T* weight, const T* bias);

  // The arrays as in conv2d (or conv_transpose2d); `to` shares no memory with the others.
  void run(const T* from, const Finish<T>& finish, T* to) const;

  const ConvShape& shape() const { return s_; }
  bool transposed() const { return transposed_; }
  std::size_t bytes() const { return packed_->bytes() + bias_.size() * sizeof(T); }

 private:
  ConvShape s_;
  bool transposed_, direct_;
  std::unique_ptr<Scratch<T>> packed_;
  std::vector<T> bias_;
};

}  // namespace cnncore
