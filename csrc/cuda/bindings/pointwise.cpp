#include "cuda/pointwise.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

// `kind` counts in the order of activations().
void pointwise_binding(const Queue& queue, const DeviceArray& x, int kind, double p, double q,
                       int order, const std::optional<DeviceArray>& scale, const DeviceArray& y) {
  CNNCORE_REQUIRE(kind >= 0 && kind < static_cast<int>(Activation::count), "kind",
                  "a known activation", kind);
  CNNCORE_REQUIRE(order >= 0 && order <= 2, "order", "0, 1 or 2", order);
  require_shape(y, "y", x.shape);
  if (scale) require_shape(*scale, "scale", x.shape);
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x");
    const auto factor = optional_input<T>(scale, "scale");
    const auto out = output<T>(y, "y");
    const double params[2] = {p, q};
    without_gil([&] {
      pointwise<T>(queue, in, static_cast<Activation>(kind), params, order, factor, out);
    });
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

}  // namespace

void bind_pointwise(py::module_& module) {
  module.def("pointwise", &pointwise_binding);
  module.def("activations", &activations);
}

}  // namespace cnncore::cuda
