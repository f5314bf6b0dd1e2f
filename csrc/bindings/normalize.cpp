#include "cpu/normalize.h"

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

template <class T>
RowGroups row_groups(const ArrayView<const T>& x, bool over_images, const py::array& array) {
  const RowGroups groups{x[0], x[1], x[2], x[3], over_images};
  if (groups.size() * groups.length < 1)
    throw ArgumentError("x", "groups of at least one element", describe_array(array), "");
  return groups;
}

// One number a channel, or nullptr for None.
template <class T>
const T* per_channel(const py::object& object, const char* name, const RowGroups& groups) {
  if (object.is_none()) return nullptr;
  const auto array = object.cast<py::array>();
  const auto view = input<T>(array, name, 1);
  if (view[0] != groups.channels())
    throw ArgumentError(name, std::to_string(groups.channels()) + " elements, one a channel",
                        describe_array(array), "");
  return view.data;
}

const double* per_group(const py::array& array, const char* name, const RowGroups& groups) {
  const auto view = input<double>(array, name);
  if (view.size() != groups.count())
    throw ArgumentError(name, std::to_string(groups.count()) + " elements, one a group",
                        describe_array(array), "");
  return view.data;
}

// An array laid out like x, or nullptr for None.
template <class T>
const T* like_x(const py::object& object, const char* name, const ArrayView<const T>& x,
                const py::array& beside) {
  if (object.is_none()) return nullptr;
  const auto array = object.cast<py::array>();
  const auto view = input<T>(array, name, 4);
  if (!std::equal(x.shape, x.shape + 4, view.shape))
    throw ArgumentError(name, "the shape of x, " + describe_array(beside), describe_array(array),
                        "");
  return view.data;
}

py::tuple normalize_binding(const py::array& x, const py::object& weight, const py::object& bias,
                            bool over_images, double eps, const py::object& residual, double low,
                            double high) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const RowGroups groups = row_groups(in, over_images, x);
    const T* factors = per_channel<T>(weight, "weight", groups);
    const T* offsets = per_channel<T>(bias, "bias", groups);
    const T* added = like_x<T>(residual, "residual", in, x);
    auto y = output<T>({in[0], in[1], in[2], in[3]});
    const std::vector<index_t> shape = {over_images ? 1 : in[0], in[1], over_images ? in[2] : 1};
    auto mean = output<double>(shape), variance = output<double>(shape);
    without_gil([&] {
      normalize<T>(groups, in.data, factors, offsets, eps, added, Limits{low, high}, y.view.data,
                   mean.view.data, variance.view.data);
    });
    return py::make_tuple(y.array, mean.array, variance.array);
  });
}

py::tuple normalize_backward_binding(const py::array& gy, const py::array& x,
                                     const py::object& weight, const py::array& mean,
                                     const py::array& rstd, bool over_images, bool fixed,
                                     const py::object& y, double low, double high) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const T *gradient = like_x<T>(gy, "gy", in, x), *result = like_x<T>(y, "y", in, x);
    const RowGroups groups = row_groups(in, over_images, x);
    const T* factors = per_channel<T>(weight, "weight", groups);
    const double *m = per_group(mean, "mean", groups), *r = per_group(rstd, "rstd", groups);
    auto gx = output<T>({in[0], in[1], in[2], in[3]});
    auto gweight = output<T>({groups.channels()}), gbias = output<T>({groups.channels()});
    without_gil([&] {
      normalize_backward<T>(groups, gradient, in.data, factors, m, r, fixed, result,
                            Limits{low, high}, gx.view.data, gweight.view.data, gbias.view.data);
    });
    return py::make_tuple(gx.array, gweight.array, gbias.array);
  });
}

}  // namespace

void bind_normalize(py::module_& module) {
  module.def("normalize", &normalize_binding);
  module.def("normalize_backward", &normalize_backward_binding);
}

}  // namespace cnncore
