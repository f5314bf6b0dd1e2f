#include "cpu/pointwise.h"

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

std::vector<index_t> shape_of(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// `kind` counts in the order of activations().
py::array pointwise_binding(const py::array& x, int kind, double p, double q, int order,
                            const py::object& scale) {
  CNNCORE_REQUIRE(kind >= 0 && kind < static_cast<int>(Activation::count), "kind",
                  "a known activation", kind);
  CNNCORE_REQUIRE(order >= 0 && order <= 2, "order", "0, 1 or 2", order);
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x");
    ArrayView<const T> factor;
    if (!scale.is_none()) {
      const auto array = scale.cast<py::array>();
      factor = input<T>(array, "scale", in.rank);
      if (shape_of(array) != shape_of(x))
        throw ArgumentError("scale", "the shape of x", describe_array(array), "");
    }
    auto y = output<T>(shape_of(x));
    const double params[2] = {p, q};
    without_gil(
        [&] { pointwise<T>(in, static_cast<Activation>(kind), params, order, factor, y.view); });
    return y.array;
  });
}

// {name: (kind, number of parameters)}
py::dict activations() {
  py::dict kinds;
#define CNNCORE_ENTRY(name, type, parameters) \
  kinds[#name] = py::make_tuple(static_cast<int>(Activation::name), parameters);
  CNNCORE_ACTIVATIONS(CNNCORE_ENTRY)
#undef CNNCORE_ENTRY
  return kinds;
}

// `kind` counts as Binary does.
py::array binary_binding(int kind, const py::array& a, const py::array& b) {
  CNNCORE_REQUIRE(kind >= 0 && kind < static_cast<int>(Binary::count), "kind", "a known operation",
                  kind);
  return by_dtype(a, "a", [&](auto zero) {
    using T = decltype(zero);
    const auto first = input<T>(a, "a"), second = input<T>(b, "b");
    const bool a_single = first.rank == 0, b_single = second.rank == 0;
    if (!a_single && !b_single && shape_of(a) != shape_of(b))
      throw ArgumentError("b", "the shape of a, or a scalar", describe_array(b), "");
    auto y = output<T>(shape_of(a_single ? b : a));
    without_gil([&] { binary<T>(static_cast<Binary>(kind), first, second, y.view); });
    return y.array;
  });
}

}  // namespace

void bind_pointwise(py::module_& module) {
  module.def("pointwise", &pointwise_binding);
  module.def("activations", &activations);
  module.def("binary", &binary_binding);
}

}  // namespace cnncore
