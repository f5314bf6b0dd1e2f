#include "cuda/reduce.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

void sum_pieces_binding(const Queue& queue, const DeviceArray& x, index_t piece,
                        const DeviceArray& y) {
  CNNCORE_REQUIRE(piece >= 1, "piece", "a length >= 1", piece);
  by_dtype(x, "x", [&](auto from) {
    using X = decltype(from);
    by_dtype(y, "y", [&](auto to) {
      using Y = decltype(to);
      const auto in = input<X>(x, "x", 3);
      // nothing at all has a sum, too: zero
      const index_t pieces = in[1] == 0 ? 1 : (in[1] + piece - 1) / piece;
      require_shape(y, "y", {in[0], pieces, in[2]});
      const auto out = output<Y>(y, "y", 3);
      without_gil([&] { sum_pieces<X, Y>(queue, in, piece, out); });
    });
  });
}

void max_middle_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& values,
                        const DeviceArray& indices) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 3);
    if (in[1] < 1) throw ArgumentError("x", "at least one element", describe_array(x), "");
    require_shape(values, "values", {in[0], in[2]});
    require_shape(indices, "indices", {in[0], in[2]});
    const auto best = output<T>(values, "values");
    const auto where = output<std::int64_t>(indices, "indices");
    without_gil([&] { max_middle<T>(queue, in, best, where); });
  });
}

void softmax_binding(const Queue& queue, const DeviceArray& x, bool log, const DeviceArray& y) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 3);
    if (in[1] < 1) throw ArgumentError("x", "at least one class", describe_array(x), "");
    require_shape(y, "y", x.shape);
    const auto out = output<T>(y, "y");
    without_gil([&] { softmax<T>(queue, in, log, out); });
  });
}

void softmax_backward_binding(const Queue& queue, const DeviceArray& gy, const DeviceArray& y,
                              bool log, const DeviceArray& gx) {
  by_dtype(y, "y", [&](auto zero) {
    using T = decltype(zero);
    const auto result = input<T>(y, "y", 3);
    require_shape(gy, "gy", y.shape);
    require_shape(gx, "gx", y.shape);
    const auto gradient = input<T>(gy, "gy");
    const auto out = output<T>(gx, "gx");
    without_gil([&] { softmax_backward<T>(queue, gradient, result, log, out); });
  });
}

}  // namespace

void bind_reduce(py::module_& module) {
  module.def("sum_pieces", &sum_pieces_binding);
  module.def("max_middle", &max_middle_binding);
  module.def("softmax", &softmax_binding);
  module.def("softmax_backward", &softmax_backward_binding);
}

}  // namespace cnncore::cuda
