#include "cpu/optim.h"

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

// An array of the shape of the parameter.
void check_like(const py::array& array, const char* name, const py::array& param) {
  const bool same = array.ndim() == param.ndim() &&
                    std::equal(array.shape(), array.shape() + array.ndim(), param.shape());
  if (!same)
    throw ArgumentError(name, "the shape of param, " + describe_array(param), describe_array(array),
                        "");
}

void sgd_update_binding(py::array& param, const py::array& grad, py::object& velocity, double lr,
                        double momentum, double dampening, double weight_decay, bool nesterov) {
  by_dtype(param, "param", [&](auto zero) {
    using T = decltype(zero);
    const auto p = inout<T>(param, "param");
    const auto g = input<T>(grad, "grad");
    check_like(grad, "grad", param);
    ArrayView<T> v;
    if (!velocity.is_none()) {
      auto array = velocity.cast<py::array>();
      v = inout<T>(array, "velocity");
      check_like(array, "velocity", param);
    }
    CNNCORE_REQUIRE((v.data == nullptr) == (momentum == 0), "velocity",
                    "None exactly without momentum", momentum);
    without_gil([&] {
      sgd_update<T>(p, g, v, SgdSettings{lr, momentum, dampening, weight_decay, nesterov});
    });
  });
}

void adam_update_binding(py::array& param, const py::array& grad, py::array& m, py::array& v,
                         index_t step, double lr, double beta1, double beta2, double eps,
                         double weight_decay, bool decoupled) {
  CNNCORE_REQUIRE(step >= 1, "step", "an integer >= 1", step);
  by_dtype(param, "param", [&](auto zero) {
    using T = decltype(zero);
    const auto p = inout<T>(param, "param");
    const auto g = input<T>(grad, "grad");
    const auto first = inout<T>(m, "m"), second = inout<T>(v, "v");
    check_like(grad, "grad", param);
    check_like(m, "m", param);
    check_like(v, "v", param);
    without_gil([&] {
      adam_update<T>(p, g, first, second,
                     AdamSettings{step, lr, beta1, beta2, eps, weight_decay, decoupled});
    });
  });
}

}  // namespace

void bind_optim(py::module_& module) {
  module.def("sgd_update", &sgd_update_binding);
  module.def("adam_update", &adam_update_binding);
}

}  // namespace cnncore
