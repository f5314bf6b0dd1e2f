#include "cuda/optim.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

void sgd_update_binding(const Queue& queue, const DeviceArray& param, const DeviceArray& grad,
                        const std::optional<DeviceArray>& velocity, double lr, double momentum,
                        double dampening, double weight_decay, bool nesterov) {
  CNNCORE_REQUIRE(velocity.has_value() == (momentum != 0), "velocity",
                  "None exactly without momentum", momentum);
  by_dtype(param, "param", [&](auto zero) {
    using T = decltype(zero);
    require_shape(grad, "grad", param.shape);
    if (velocity) require_shape(*velocity, "velocity", param.shape);
    const auto p = output<T>(param, "param");
    const auto g = input<T>(grad, "grad");
    const auto v = velocity ? output<T>(*velocity, "velocity") : ArrayView<T>{};
    const SgdSettings settings{lr, momentum, dampening, weight_decay, nesterov};
    without_gil([&] { sgd_update<T>(queue, p, g, v, settings); });
  });
}

void adam_update_binding(const Queue& queue, const DeviceArray& param, const DeviceArray& grad,
                         const DeviceArray& m, const DeviceArray& v, index_t step, double lr,
                         double beta1, double beta2, double eps, double weight_decay,
                         bool decoupled) {
  CNNCORE_REQUIRE(step >= 1, "step", "an integer >= 1", step);
  by_dtype(param, "param", [&](auto zero) {
    using T = decltype(zero);
    require_shape(grad, "grad", param.shape);
    require_shape(m, "m", param.shape);
    require_shape(v, "v", param.shape);
    const auto p = output<T>(param, "param"), first = output<T>(m, "m");
    const auto second = output<T>(v, "v");
    const auto g = input<T>(grad, "grad");
    const AdamSettings settings{step, lr, beta1, beta2, eps, weight_decay, decoupled};
    without_gil([&] { adam_update<T>(queue, p, g, first, second, settings); });
  });
}

}  // namespace

void bind_optim(py::module_& module) {
  module.def("sgd_update", &sgd_update_binding);
  module.def("adam_update", &adam_update_binding);
}

}  // namespace cnncore::cuda
