// From Python arguments to finishes of convolutions and what they are given.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "bindings/array.h"
#include "bindings/conv_shape.h"
#include "cpu/finish.h"

namespace cnncore {

template <class T>
inline void check_weight(const ArrayView<const T>& weight, const ConvShape& s) {
  CNNCORE_REQUIRE(weight[0] == s.outputs && weight[1] == s.group_channels() &&
                      weight[2] == s.window.h.kernel && weight[3] == s.window.w.kernel,
                  "weight",
                  "shape (O, C/groups, KH, KW) = (" + describe(s.outputs) + ", " +
                      describe(s.group_channels()) + ", " + describe(s.window.h.kernel) + ", " +
                      describe(s.window.w.kernel) + ")",
                  "(" + describe(weight[0]) + ", " + describe(weight[1]) + ", " +
                      describe(weight[2]) + ", " + describe(weight[3]) + ")");
}

template <class T>
inline const T* optional_bias(const py::object& bias, index_t size) {
  if (bias.is_none()) return nullptr;
  const auto view = input<T>(py::cast<py::array>(bias), "bias", 1);
  CNNCORE_REQUIRE(view[0] == size, "bias", describe(size) + " elements", view[0]);
  return view.data;
}

// (kind of activation or -1, p, q): kinds count as in activations().
using Activating = std::tuple<int, double, double>;

template <class T>
inline Finish<T> make_finish(const py::object& residual, const Activating& activating,
                             const std::vector<index_t>& shape) {
  const auto [kind, p, q] = activating;
  CNNCORE_REQUIRE(kind >= kNoActivation && kind < static_cast<int>(Activation::count), "kind",
                  "a known activation, or -1", kind);
  Finish<T> finish{nullptr, kind, static_cast<T>(p), static_cast<T>(q)};
  if (residual.is_none()) return finish;
  const auto array = residual.cast<py::array>();
  const auto view = input<T>(array, "residual", static_cast<int>(shape.size()));
  for (int axis = 0; axis < view.rank; ++axis)
    CNNCORE_REQUIRE(view[axis] == shape[static_cast<std::size_t>(axis)], "residual",
                    "the shape of the result", describe_array(array));
  finish.residual = view.data;
  return finish;
}

inline std::vector<index_t> output_shape(const ConvShape& s) {
  return {s.images, s.outputs, s.oh(), s.ow()};
}

inline std::vector<index_t> input_shape(const ConvShape& s) {
  return {s.images, s.channels, s.height, s.width};
}

}  // namespace cnncore
