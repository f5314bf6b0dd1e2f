// From Python arguments to windows, shapes and finishes of convolutions.
#pragma once

#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/array.h"
#include "cnncore/geometry.h"
#include "cpu/conv/shape.h"
#include "cpu/finish.h"

namespace cnncore {

// KH KW SH SW top bottom left right DH DW: Window2d.flat() of cnncore/geometry.py.
using FlatWindow = std::array<index_t, 10>;
using Size = std::array<index_t, 2>;

// Sizes beyond this are mistakes; the bound keeps all later arithmetic inside 64 bits.
constexpr index_t kMaxSize = index_t{1} << 40;

inline void require_size(const char* name, index_t value, index_t minimum) {
  CNNCORE_REQUIRE(value >= minimum && value <= kMaxSize, name,
                  "integers from " + std::to_string(minimum) + " to 2**40", value);
}

inline Window2d make_window(const FlatWindow& flat) {
  for (int axis = 0; axis < 2; ++axis) {
    require_size("kernel_size", flat[static_cast<std::size_t>(axis)], 1);
    require_size("stride", flat[static_cast<std::size_t>(2 + axis)], 1);
    require_size("dilation", flat[static_cast<std::size_t>(8 + axis)], 1);
  }
  for (std::size_t side = 4; side < 8; ++side) require_size("padding", flat[side], 0);
  const Window2d window{{flat[0], flat[2], flat[4], flat[5], flat[8]},
                        {flat[1], flat[3], flat[6], flat[7], flat[9]}};
  CNNCORE_REQUIRE(checked_product(flat[0], flat[1]) <= kMaxSize, "kernel_size",
                  "at most 2**40 taps", describe(flat[0]) + " x " + describe(flat[1]));
  CNNCORE_REQUIRE(checked_product(flat[0], flat[8]) <= kMaxSize &&
                      checked_product(flat[1], flat[9]) <= kMaxSize,
                  "dilation", "a kernel that spans at most 2**40 pixels", describe(flat[8]));
  return window;
}

// The plane (H, W) with its window; the kernel must fit.
inline void check_plane(const Window2d& window, index_t height, index_t width) {
  require_size("height", height, 0);
  require_size("width", width, 0);
  CNNCORE_REQUIRE(window.h.output_size(height) > 0 && window.w.output_size(width) > 0, "x",
                  "a padded plane of at least the kernel's extent " + describe(window.h.extent()) +
                      " x " + describe(window.w.extent()),
                  describe(height) + " x " + describe(width), "a smaller kernel or more padding");
}

inline ConvShape make_shape(index_t images, index_t channels, index_t height, index_t width,
                            index_t outputs, index_t groups, const Window2d& window) {
  CNNCORE_REQUIRE(
      groups >= 1 && channels % groups == 0 && outputs % groups == 0, "groups",
      "a divisor of " + describe(channels) + " input and " + describe(outputs) + " output channels",
      groups);
  const ConvShape shape{images, channels, height, width, outputs, groups, window};
  check_plane(window, height, width);
  checked_product(images, outputs, shape.oh(), shape.ow());
  checked_product(channels, shape.taps(), shape.oh(), shape.ow());
  checked_product(channels, shape.taps(), outputs);
  return shape;
}

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
