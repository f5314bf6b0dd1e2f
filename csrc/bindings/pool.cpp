#include "cpu/pool.h"

#include "bindings/bindings.h"
#include "bindings/sampling.h"

namespace cnncore {
namespace {

// `window` is Window2d.flat(): KH KW SH SW top bottom left right DH DW.
py::tuple max_pool2d_binding(const py::array& x, const std::vector<index_t>& window,
                             index_t out_height, index_t out_width) {
  CNNCORE_REQUIRE(window.size() == 10, "window", "10 integers (Window2d.flat())", window.size());
  const Window1d h{window[0], window[2], window[4], window[5], window[8]};
  const Window1d w{window[1], window[3], window[6], window[7], window[9]};
  constexpr index_t limit = index_t{1} << 31;  // so that no coordinate overflows
  for (std::size_t i = 0; i < window.size(); ++i)
    CNNCORE_REQUIRE(window[i] >= (i >= 4 && i < 8 ? 0 : 1) && window[i] < limit, "window",
                    "kernel, stride and dilation >= 1, padding >= 0, all below 2**31", window[i]);
  for (index_t size : {out_height, out_width})
    CNNCORE_REQUIRE(size >= 0 && size < limit, "output_size", "sizes from 0 to 2**31", size);
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    CNNCORE_REQUIRE(in[2] * in[3] < (index_t{1} << 31), "x", "planes of fewer than 2**31 pixels",
                    describe_array(x), "smaller images");
    auto y = output<T>({in[0], in[1], out_height, out_width});
    auto winners = output<std::int64_t>({in[0], in[1], out_height, out_width});
    without_gil([&] { max_pool2d<T>(in, Window2d{h, w}, y.view, winners.view); });
    return py::make_tuple(y.array, winners.array);
  });
}

py::tuple bin_max_binding(const py::array& x, const py::array& image, index_t height,
                          const py::array& row_start, const py::array& row_end, index_t width,
                          const py::array& col_start, const py::array& col_end) {
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const index_t regions = image.size();
    const auto images = image_view(image, regions, in[0]);
    const BinsView rows = bins_view("rows", height, row_start, row_end);
    const BinsView cols = bins_view("cols", width, col_start, col_end);
    CNNCORE_REQUIRE(in[2] == height && in[3] == width, "x", "planes of the size of the bins",
                    describe_array(x));
    check_groups("rows", rows.groups, regions);
    check_groups("cols", cols.groups, regions);
    auto y = output<T>({regions, in[1], rows.length, cols.length});
    auto winners = output<std::int64_t>({regions, in[1], rows.length, cols.length});
    without_gil([&] { bin_max<T>(in, images, rows, cols, y.view, winners.view); });
    return py::make_tuple(y.array, winners.array);
  });
}

}  // namespace

void bind_pool(py::module_& module) {
  module.def("max_pool2d", &max_pool2d_binding);
  module.def("bin_max", &bin_max_binding);
}

}  // namespace cnncore
