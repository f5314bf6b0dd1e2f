#include "cuda/rows.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

// (R, pieces, 2), asked for where a row has several pieces.
ArrayView<double> room_for_parts(const std::optional<DeviceArray>& parts, const DeviceArray& x) {
  const index_t pieces = (x.shape[1] + kRowPiece - 1) / kRowPiece;
  if (pieces <= 1) return {};
  if (!parts)
    throw ArgumentError("parts", "room for " + describe(pieces) + " pieces a row", "None", "");
  require_shape(*parts, "parts", {x.shape[0], pieces, 2});
  return output<double>(*parts, "parts", 3);
}

void row_moments_binding(const Queue& queue, const DeviceArray& x,
                         const std::optional<DeviceArray>& parts, const DeviceArray& mean,
                         const DeviceArray& squares) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    if (in[1] < 1) throw ArgumentError("x", "rows of at least one element", describe_array(x), "");
    const auto room = room_for_parts(parts, x);
    require_shape(mean, "mean", {in[0]});
    require_shape(squares, "squares", {in[0]});
    const auto first = output<T>(mean, "mean"), second = output<T>(squares, "squares");
    without_gil([&] { row_moments<T>(queue, in, room, first, second); });
  });
}

void row_products_binding(const Queue& queue, const DeviceArray& gy, const DeviceArray& x,
                          const DeviceArray& mean, const std::optional<DeviceArray>& parts,
                          const DeviceArray& sums, const DeviceArray& products) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    require_shape(gy, "gy", x.shape);
    for (const auto* each : {&mean, &sums, &products}) require_shape(*each, "mean", {in[0]});
    const auto g = input<T>(gy, "gy"), m = input<T>(mean, "mean");
    const auto room = room_for_parts(parts, x);
    const auto first = output<T>(sums, "sums"), second = output<T>(products, "products");
    without_gil([&] { row_products<T>(queue, g, in, m, room, first, second); });
  });
}

// z and b are both None, or both given.
void row_linear_binding(const Queue& queue, const DeviceArray& x,
                        const std::optional<DeviceArray>& z, const DeviceArray& a,
                        const std::optional<DeviceArray>& b, const DeviceArray& c,
                        const DeviceArray& y) {
  CNNCORE_REQUIRE(z.has_value() == b.has_value(), "z", "given exactly where b is", z.has_value());
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 2);
    if (z) require_shape(*z, "z", x.shape);
    require_shape(y, "y", x.shape);
    require_shape(a, "a", {in[0]});
    if (b) require_shape(*b, "b", {in[0]});
    require_shape(c, "c", {in[0]});
    const auto second = optional_input<T>(z, "z"), factor2 = optional_input<T>(b, "b");
    const auto factor = input<T>(a, "a"), offset = input<T>(c, "c");
    const auto out = output<T>(y, "y");
    without_gil([&] { row_linear<T>(queue, in, second, factor, factor2, offset, out); });
  });
}

}  // namespace

void bind_rows(py::module_& module) {
  module.def("row_moments", &row_moments_binding);
  module.def("row_products", &row_products_binding);
  module.def("row_linear", &row_linear_binding);
  module.attr("row_piece") = kRowPiece;
}

}  // namespace cnncore::cuda
