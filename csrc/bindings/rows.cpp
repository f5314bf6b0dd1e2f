#include "cpu/rows.h"

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

// One number for each row of x (R, I).
template <class T>
ArrayView<const T> row_vector(const py::array& array, const char* name, index_t rows) {
  const auto view = input<T>(array, name, 1);
  if (view[0] != rows)
    throw ArgumentError(name, "one element for each of " + std::to_string(rows) + " rows",
                        describe_array(array), "");
  return view;
}

template <class T>
ArrayView<const T> same_shape(const py::array& array, const char* name,
                              const ArrayView<const T>& x) {
  const auto view = input<T>(array, name, 2);
  if (view[0] != x[0] || view[1] != x[1])
    throw ArgumentError(name, "the shape of x", describe_array(array), "");
  return view;
}

py::tuple row_moments_binding(const py::array& x) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    if (in[1] < 1) throw ArgumentError("x", "rows of at least one element", describe_array(x), "");
    auto mean = output<T>({in[0]}), squares = output<T>({in[0]});
    without_gil([&] { row_moments<T>(in, mean.view, squares.view); });
    return py::make_tuple(mean.array, squares.array);
  });
}

py::tuple row_products_binding(const py::array& gy, const py::array& x, const py::array& mean) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    const auto g = same_shape<T>(gy, "gy", in);
    const auto m = row_vector<T>(mean, "mean", in[0]);
    auto sums = output<T>({in[0]}), products = output<T>({in[0]});
    without_gil([&] { row_products<T>(g, in, m, sums.view, products.view); });
    return py::make_tuple(sums.array, products.array);
  });
}

py::array row_linear_binding(const py::array& x, const py::array& a, const py::array& b,
                             const py::object& residual, double low, double high) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    const auto factor = row_vector<T>(a, "a", in[0]), offset = row_vector<T>(b, "b", in[0]);
    const T* const added = residual.is_none()
                               ? nullptr
                               : same_shape<T>(residual.cast<py::array>(), "residual", in).data;
    auto y = output<T>({in[0], in[1]});
    without_gil([&] { row_linear<T>(in, factor, offset, added, Limits{low, high}, y.view); });
    return y.array;
  });
}

py::array row_linear2_binding(const py::array& x, const py::array& z, const py::array& a,
                              const py::array& b, const py::array& c) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2), second = same_shape<T>(z, "z", in);
    const auto fx = row_vector<T>(a, "a", in[0]), fz = row_vector<T>(b, "b", in[0]);
    const auto offset = row_vector<T>(c, "c", in[0]);
    auto y = output<T>({in[0], in[1]});
    without_gil([&] { row_linear2<T>(in, second, fx, fz, offset, y.view); });
    return y.array;
  });
}

}  // namespace

void bind_rows(py::module_& module) {
  module.def("row_moments", &row_moments_binding);
  module.def("row_products", &row_products_binding);
  module.def("row_linear", &row_linear_binding);
  module.def("row_linear2", &row_linear2_binding);
}

}  // namespace cnncore
