// Maxima, switches and separable sampling. Indices have been looked at by Python's checks.
#include "bindings/conv_shape.h"
#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"
#include "cuda/pool.h"
#include "cuda/resample.h"

namespace cnncore::cuda {
namespace {

using OptionalArray = std::optional<DeviceArray>;

void check_groups(const char* name, index_t groups, index_t regions) {
  CNNCORE_REQUIRE(groups == 1 || groups == regions, name, "one group or one for each region",
                  groups);
}

ArrayView<const std::int64_t> image_view(const OptionalArray& image, index_t regions) {
  if (image) require_shape(*image, "image", {regions});
  return optional_input<std::int64_t>(image, "image", 1);
}

void max_pool2d_binding(const Queue& queue, const DeviceArray& x, const FlatWindow& flat,
                        const DeviceArray& y, const DeviceArray& winners) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const auto out = output<T>(y, "y", 4);
    require_shape(y, "y", {in[0], in[1], out[2], out[3]});
    require_shape(winners, "winners", y.shape);
    const auto where = output<std::int64_t>(winners, "winners", 4);
    const Window2d window = make_window(flat);
    without_gil([&] { max_pool2d<T>(queue, in, window, out, where); });
  });
}

// (size, start, end)
using BinArrays = std::tuple<index_t, DeviceArray, DeviceArray>;

BinsView bins_view(const char* name, const BinArrays& bins, index_t regions) {
  const auto& [size, start, end] = bins;
  const auto first = input<std::int64_t>(start, name, 2);
  require_shape(end, name, start.shape);
  check_groups(name, first[0], regions);
  return {size, first[0], first[1], first.data, input<std::int64_t>(end, name, 2).data};
}

void bin_max_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& image,
                     const BinArrays& row_bins, const BinArrays& col_bins, const DeviceArray& y,
                     const DeviceArray& winners) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const auto images = input<std::int64_t>(image, "image", 1);
    const BinsView rows = bins_view("rows", row_bins, images[0]);
    const BinsView cols = bins_view("cols", col_bins, images[0]);
    require_shape(x, "x", {in[0], in[1], rows.size, cols.size});
    require_shape(y, "y", {images[0], in[1], rows.length, cols.length});
    require_shape(winners, "winners", y.shape);
    const auto out = output<T>(y, "y", 4);
    const auto where = output<std::int64_t>(winners, "winners", 4);
    without_gil([&] { bin_max<T>(queue, in, images, rows, cols, out, where); });
  });
}

void gather_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& index,
                    const DeviceArray& y) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 3);
    const auto chosen = input<std::int64_t>(index, "index", 3);
    require_shape(y, "y", {in[0], chosen[1], in[2]});
    check_groups("index", chosen[0], in[0]);
    check_groups("index", chosen[2], in[2]);
    const auto out = output<T>(y, "y", 3);
    without_gil([&] { gather<T>(queue, in, chosen, out); });
  });
}

void scatter_add_binding(const Queue& queue, const DeviceArray& src, const DeviceArray& index,
                         const DeviceArray& y) {
  by_dtype(src, "src", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(src, "src", 3);
    const auto chosen = input<std::int64_t>(index, "index", 3);
    const auto out = output<T>(y, "y", 3);
    require_shape(y, "y", {in[0], out[1], in[2]});
    CNNCORE_REQUIRE(chosen[1] == in[1], "index", "as many rows as src", chosen[1]);
    check_groups("index", chosen[0], in[0]);
    check_groups("index", chosen[2], in[2]);
    without_gil([&] { scatter_add<T>(queue, in, chosen, out); });
  });
}

void region_gather_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& image,
                           const DeviceArray& switches, const DeviceArray& y) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const auto chosen = input<std::int64_t>(switches, "switches", 4);
    require_shape(switches, "switches", {chosen[0], in[1], chosen[2], chosen[3]});
    require_shape(y, "y", switches.shape);
    const auto images = image_view(image, chosen[0]);
    const auto out = output<T>(y, "y", 4);
    without_gil([&] { region_gather<T>(queue, in, images, chosen, out); });
  });
}

void region_scatter_binding(const Queue& queue, const DeviceArray& gy, const DeviceArray& image,
                            const DeviceArray& switches, const DeviceArray& gx) {
  by_dtype(gy, "gy", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(gy, "gy", 4);
    const auto out = output<T>(gx, "gx", 4);
    require_shape(gx, "gx", {out[0], in[1], out[2], out[3]});
    require_shape(switches, "switches", gy.shape);
    const auto chosen = input<std::int64_t>(switches, "switches", 4);
    const auto images = image_view(image, in[0]);
    without_gil([&] { region_scatter<T>(queue, in, images, chosen, out); });
  });
}

// (size, index, weight, count) of DeviceTaps
using TapArrays = std::tuple<index_t, DeviceArray, DeviceArray, DeviceArray>;

template <class T>
DeviceTaps<T> taps_view(const char* name, const TapArrays& taps, index_t regions) {
  const auto& [size, index, weight, count] = taps;
  const auto chosen = input<std::int32_t>(index, name, 3);
  require_shape(weight, name, index.shape);
  require_shape(count, name, {chosen[0], chosen[1]});
  check_groups(name, chosen[0], regions);
  return {size,
          chosen[0],
          chosen[1],
          chosen[2],
          chosen.data,
          input<T>(weight, name, 3).data,
          input<std::int32_t>(count, name, 2).data};
}

void resample_binding(const Queue& queue, const DeviceArray& x, const OptionalArray& image,
                      const TapArrays& row_taps, const TapArrays& col_taps, bool position_sensitive,
                      const DeviceArray& y) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const auto out = output<T>(y, "y", 4);
    const auto images = image_view(image, out[0]);
    const auto rows = taps_view<T>("rows", row_taps, out[0]);
    const auto cols = taps_view<T>("cols", col_taps, out[0]);
    const index_t bins = position_sensitive ? rows.length * cols.length : 1;
    require_shape(x, "x", {image ? in[0] : out[0], out[1] * bins, rows.size, cols.size});
    require_shape(y, "y", {out[0], out[1], rows.length, cols.length});
    without_gil([&] { resample<T>(queue, in, images, rows, cols, position_sensitive, out); });
  });
}

index_t resample_adjoint_binding(const Queue& queue, const DeviceArray& gy,
                                 const OptionalArray& image, const TapArrays& row_taps,
                                 const TapArrays& col_taps, bool position_sensitive,
                                 const OptionalArray& space, const DeviceArray& gx) {
  return by_dtype(gy, "gy", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(gy, "gy", 4);
    const auto out = output<T>(gx, "gx", 4);
    const auto images = image_view(image, in[0]);
    const auto rows = taps_view<T>("rows", row_taps, in[0]);
    const auto cols = taps_view<T>("cols", col_taps, in[0]);
    const index_t bins = position_sensitive ? rows.length * cols.length : 1;
    require_shape(gx, "gx", {image ? out[0] : in[0], in[1] * bins, rows.size, cols.size});
    require_shape(gy, "gy", {in[0], in[1], rows.length, cols.length});
    Workspace workspace = workspace_of(space);
    without_gil([&] {
      resample_adjoint<T>(queue, in, images, rows, cols, position_sensitive, out, workspace);
    });
    return workspace.bytes();
  });
}

}  // namespace

void bind_sampling(py::module_& module) {
  module.def("max_pool2d", &max_pool2d_binding);
  module.def("bin_max", &bin_max_binding);
  module.def("gather", &gather_binding);
  module.def("scatter_add", &scatter_add_binding);
  module.def("region_gather", &region_gather_binding);
  module.def("region_scatter", &region_scatter_binding);
  module.def("resample", &resample_binding);
  module.def("resample_adjoint", &resample_adjoint_binding);
}

}  // namespace cnncore::cuda
