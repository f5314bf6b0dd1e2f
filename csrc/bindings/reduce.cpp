#include "cpu/reduce.h"

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "cpu/softmax.h"

namespace cnncore {
namespace {

void check_axis(int axis, int rank) {
  if (axis < 0 || axis >= rank)
    throw ArgumentError("axis", "an axis from 0 to " + std::to_string(rank - 1),
                        std::to_string(axis), "");
}

py::array reduce_sum_binding(const py::array& x, const std::vector<int>& axes) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x");
    std::vector<bool> reduced(static_cast<std::size_t>(in.rank), false);
    for (int axis : axes) {
      check_axis(axis, in.rank);
      CNNCORE_REQUIRE(!reduced[static_cast<std::size_t>(axis)], "axes", "distinct axes", axis);
      reduced[static_cast<std::size_t>(axis)] = true;
    }
    std::vector<index_t> shape;
    for (int axis = 0; axis < in.rank; ++axis)
      if (!reduced[static_cast<std::size_t>(axis)]) shape.push_back(in[axis]);
    auto y = output<T>(shape);
    without_gil([&] { reduce_sum<T>(in, reduced, y.view); });
    return y.array;
  });
}

py::tuple reduce_max_binding(const py::array& x, int axis) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x");
    check_axis(axis, in.rank);
    if (in[axis] < 1)
      throw ArgumentError("x", "at least one element along the axis", describe_array(x), "");
    std::vector<index_t> shape;
    index_t outer = 1, inner = 1;
    for (int i = 0; i < in.rank; ++i) {
      if (i == axis) continue;
      shape.push_back(in[i]);
      (i < axis ? outer : inner) *= in[i];
    }
    auto values = output<T>(shape);
    auto indices = output<std::int64_t>(shape);
    without_gil([&] {
      reduce_max<T>(in.data, outer, in[axis], inner, values.view.data, indices.view.data);
    });
    return py::make_tuple(values.array, indices.array);
  });
}

py::array softmax_binding(const py::array& x, bool log) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 3);
    if (in[1] < 1) throw ArgumentError("x", "at least one class", describe_array(x), "");
    auto y = output<T>({in[0], in[1], in[2]});
    without_gil([&] { softmax<T>(in, log, y.view); });
    return y.array;
  });
}

py::array softmax_backward_binding(const py::array& gy, const py::array& y, bool log) {
  return by_dtype(y, "y", [&](auto zero) {
    using T = decltype(zero);
    const auto g = input<T>(gy, "gy", 3), in = input<T>(y, "y", 3);
    if (g[0] != in[0] || g[1] != in[1] || g[2] != in[2])
      throw ArgumentError("gy", "the shape of y", describe_array(gy), "");
    auto gx = output<T>({in[0], in[1], in[2]});
    without_gil([&] { softmax_backward<T>(g, in, log, gx.view); });
    return gx.array;
  });
}

}  // namespace

void bind_reduce(py::module_& module) {
  module.def("reduce_sum", &reduce_sum_binding);
  module.def("reduce_max", &reduce_max_binding);
  module.def("softmax", &softmax_binding);
  module.def("softmax_backward", &softmax_backward_binding);
}

}  // namespace cnncore
