#include "cpu/resample.h"

#include "bindings/bindings.h"
#include "bindings/sampling.h"

namespace cnncore {
namespace {

struct Sampling {
  TapsView rows, cols;
};

Sampling sampling(index_t height, const py::array& row_index, const py::array& row_weight,
                  const py::array& row_count, index_t width, const py::array& col_index,
                  const py::array& col_weight, const py::array& col_count) {
  return {taps_view("rows", height, row_index, row_weight, row_count),
          taps_view("cols", width, col_index, col_weight, col_count)};
}

py::array resample_binding(const py::array& x, const py::object& image, index_t height,
                           const py::array& row_index, const py::array& row_weight,
                           const py::array& row_count, index_t width, const py::array& col_index,
                           const py::array& col_weight, const py::array& col_count,
                           bool position_sensitive) {
  const Sampling taps =
      sampling(height, row_index, row_weight, row_count, width, col_index, col_weight, col_count);
  const index_t ph = taps.rows.length, pw = taps.cols.length;
  return by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const index_t regions = image.is_none() ? in[0] : image.cast<py::array>().size();
    const auto images = image_view(image, regions, in[0]);
    CNNCORE_REQUIRE(in[2] == height && in[3] == width, "x", "planes of the size of the taps",
                    describe_array(x));
    check_groups("rows", taps.rows.groups, regions);
    check_groups("cols", taps.cols.groups, regions);
    const index_t bins = position_sensitive ? checked_product(ph, pw) : 1;
    CNNCORE_REQUIRE(bins > 0 && in[1] % bins == 0, "x", "a multiple of PH·PW channels",
                    describe_array(x));
    auto y = output<T>({regions, in[1] / bins, ph, pw});
    without_gil([&] { resample<T>(in, images, taps.rows, taps.cols, position_sensitive, y.view); });
    return y.array;
  });
}

py::array resample_adjoint_binding(const py::array& gy, const py::object& image, index_t height,
                                   const py::array& row_index, const py::array& row_weight,
                                   const py::array& row_count, index_t width,
                                   const py::array& col_index, const py::array& col_weight,
                                   const py::array& col_count, index_t images,
                                   bool position_sensitive) {
  const Sampling taps =
      sampling(height, row_index, row_weight, row_count, width, col_index, col_weight, col_count);
  const index_t ph = taps.rows.length, pw = taps.cols.length;
  CNNCORE_REQUIRE(images >= 0, "images", "an integer >= 0", images);
  return by_dtype(gy, "gy", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(gy, "gy", 4);
    const auto which = image_view(image, in[0], images);
    CNNCORE_REQUIRE(in[2] == ph && in[3] == pw, "gy", "planes of the output size of the taps",
                    describe_array(gy));
    check_groups("rows", taps.rows.groups, in[0]);
    check_groups("cols", taps.cols.groups, in[0]);
    const index_t bins = position_sensitive ? checked_product(ph, pw) : 1;
    auto gx = output<T>({images, checked_product(in[1], bins), height, width});
    without_gil(
        [&] { resample_adjoint<T>(in, which, taps.rows, taps.cols, position_sensitive, gx.view); });
    return gx.array;
  });
}

}  // namespace

void bind_resample(py::module_& module) {
  module.def("resample", &resample_binding);
  module.def("resample_adjoint", &resample_adjoint_binding);
}

}  // namespace cnncore
