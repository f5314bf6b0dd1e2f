// One way to compute convolutions, and the list of all of them.
//
// An algorithm lives in a file of its own and is reached only through its row in the list: nothing
// else in the engine knows which ones there are. select.h chooses among them.
#pragma once

#include <memory>
#include <vector>

#include "cpu/conv/cost.h"
#include "cpu/conv/shape.h"
#include "cpu/finish.h"

namespace cnncore {

// A convolution (or its transpose) of one shape with weights of its own, in the form that one
// algorithm wants: made by ConvAlgorithm::prepare, for one call or for many.
template <class T>
class ConvLayer {
 public:
  using Element = T;

  virtual ~ConvLayer() = default;

  // output: x (N, C, H, W) -> y (N, O, OH, OW); input: y -> x. `to` shares no memory with the
  // others. May be called from several threads at once.
  virtual void run(const T* from, const Finish<T>& finish, T* to) const = 0;

  // Memory of the weights and the bias as they are kept.
  virtual std::size_t bytes() const = 0;
};

template <class T>
struct ConvAlgorithm {
  const char* name;

  // Whether it computes this direction of this shape.
  bool (*serves)(const ConvShape& shape, ConvDirection direction);

  // direction: output or input. weight (O, C/G, KH, KW) and bias (O, or C for the input; may be
  // null) are copied or packed: they may change or go afterwards.
  std::unique_ptr<ConvLayer<T>> (*prepare)(const ConvShape& shape, ConvDirection direction,
                                           const T* weight, const T* bias);

  // x (N, C, H, W), gy (N, O, OH, OW) -> gweight (O, C/G, KH, KW)
  void (*weight)(const ConvShape& shape, const T* x, const T* gy, T* gweight);

  // What it costs where it serves: a row of cost.h.
  ConvCost steps;

  // As prepare, for a layer that runs once, while weight and bias stay as they are; null where
  // that saves nothing.
  std::unique_ptr<ConvLayer<T>> (*prepare_once)(const ConvShape& shape, ConvDirection direction,
                                                const T* weight, const T* bias) = nullptr;
};

// Each defined in the file of its name.
template <class T>
const ConvAlgorithm<T>& im2col_algorithm();
template <class T>
const ConvAlgorithm<T>& implicit_gemm_algorithm();
template <class T>
const ConvAlgorithm<T>& direct_algorithm();
template <class T>
const ConvAlgorithm<T>& depthwise_algorithm();
template <class T>
const ConvAlgorithm<T>& winograd_2x2_algorithm();
template <class T>
const ConvAlgorithm<T>& winograd_4x4_algorithm();
template <class T>
const ConvAlgorithm<T>& winograd_phases_3x3_algorithm();
template <class T>
const ConvAlgorithm<T>& winograd_phases_4x4_algorithm();

// All of them, the plainest first.
template <class T>
const std::vector<ConvAlgorithm<T>>& conv_algorithms();

}  // namespace cnncore
