#include "cpu/gather.h"

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/sampling.h"

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

py::array scatter_add_binding(const py::array& src, const py::array& index, index_t size,
                              bool skips) {
  CNNCORE_REQUIRE(size >= 0, "size", "an integer >= 0", size);
  return by_dtype(src, "src", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(src, "src", 3);
    const auto chosen = index_view(index, in[0], in[2]);
    CNNCORE_REQUIRE(chosen[1] == in[1], "index", "as many rows as src", describe_array(index));
    auto y = output<T>({in[0], size, in[2]});
    without_gil([&] { scatter_add<T>(in, chosen, skips, y.view); });
    return y.array;
  });
}

// Switches of the bins of regions: (R, C, PH, PW) for images (R,).
ArrayView<const std::int64_t> switches_view(const py::array& switches, index_t regions,
                                            index_t channels) {
  const auto view = input<std::int64_t>(switches, "switches", 4);
  CNNCORE_REQUIRE(
      view[0] == regions && view[1] == channels, "switches",
      "shape (" + std::to_string(regions) + ", " + std::to_string(channels) + ", PH, PW)",
      describe_array(switches));
  return view;
}

py::array region_gather_binding(const py::array& x, const py::array& image,
                                const py::array& switches) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const auto images = image_view(image, image.size(), in[0]);
    const auto chosen = switches_view(switches, image.size(), in[1]);
    auto y = output<T>({chosen[0], chosen[1], chosen[2], chosen[3]});
    without_gil([&] { region_gather<T>(in, images, chosen, y.view); });
    return y.array;
  });
}

py::array region_scatter_binding(const py::array& gy, const py::array& image,
                                 const py::array& switches, index_t images, index_t height,
                                 index_t width) {
  for (index_t size : {images, height, width})
    CNNCORE_REQUIRE(size >= 0, "size", "integers >= 0", size);
  return by_dtype(gy, "gy", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(gy, "gy", 4);
    const auto of = image_view(image, image.size(), images);
    const auto chosen = switches_view(switches, image.size(), in[1]);
    CNNCORE_REQUIRE(in[0] == chosen[0] && in[2] == chosen[2] && in[3] == chosen[3], "gy",
                    "the shape of switches", describe_array(gy));
    auto gx = output<T>({images, in[1], height, width});
    without_gil([&] { region_scatter<T>(in, of, chosen, gx.view); });
    return gx.array;
  });
}

}  // namespace

void bind_gather(py::module_& module) {
  module.def("gather", &gather_binding);
  module.def("scatter_add", &scatter_add_binding);
  module.def("region_gather", &region_gather_binding);
  module.def("region_scatter", &region_scatter_binding);
}

}  // namespace cnncore
