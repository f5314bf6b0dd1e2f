#include "cuda/segments.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

// source and target are permutations and places that kernels/cuda has made: they are not checked.
void add_segments_binding(const Queue& queue, const DeviceArray& src, const DeviceArray& source,
                          const DeviceArray& target, const DeviceArray& y) {
  by_dtype(src, "src", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(src, "src");
    require_shape(source, "source", {in.size()});
    require_shape(target, "target", {in.size()});
    const auto from = input<std::int64_t>(source, "source");
    const auto to = input<std::int64_t>(target, "target");
    const auto out = output<T>(y, "y");
    without_gil([&] { add_segments<T>(queue, in, from, to, out); });
  });
}

}  // namespace

void bind_segments(py::module_& module) {
  module.def("add_segments", &add_segments_binding);
}

}  // namespace cnncore::cuda
