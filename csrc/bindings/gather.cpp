#include "cpu/gather.h"

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

// The index of gather and scatter_add: (O or 1, J, I or 1) against arrays of O and I.
ArrayView<const std::int64_t> index_view(const py::array& index, index_t outer, index_t inner) {
  const auto view = input<std::int64_t>(index, "index", 3);
  if ((view[0] != 1 && view[0] != outer) || (view[2] != 1 && view[2] != inner))
    throw ArgumentError(
        "index",
        "shape (" + std::to_string(outer) + " or 1, J, " + std::to_string(inner) + " or 1)",
        describe_array(index), "");
  return view;
}

py::array gather_binding(const py::array& x, const py::array& index) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 3);
    const auto chosen = index_view(index, in[0], in[2]);
    auto y = output<T>({in[0], chosen[1], in[2]});
    without_gil([&] { gather<T>(in, chosen, y.view); });
    return y.array;
  });
}

py::array scatter_add_binding(const py::array& src, const py::array& index, index_t size) {
  CNNCORE_REQUIRE(size >= 0, "size", "an integer >= 0", size);
  return by_dtype(src, "src", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(src, "src", 3);
    const auto chosen = index_view(index, in[0], in[2]);
    CNNCORE_REQUIRE(chosen[1] == in[1], "index", "as many rows as src", describe_array(index));
    auto y = output<T>({in[0], size, in[2]});
    without_gil([&] { scatter_add<T>(in, chosen, y.view); });
    return y.array;
  });
}

}  // namespace

void bind_gather(py::module_& module) {
  module.def("gather", &gather_binding);
  module.def("scatter_add", &scatter_add_binding);
}

}  // namespace cnncore
