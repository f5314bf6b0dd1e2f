// Sizes of windows and convolutions as they come from Python, checked; for both extension modules.
#pragma once

#include <array>
#include <string>

#include "cnncore/check.h"
#include "cpu/conv/shape.h"

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

}  // namespace cnncore
