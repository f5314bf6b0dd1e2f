#include "cuda/boxes.h"

#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"

namespace cnncore::cuda {
namespace {

template <class T>
ArrayView<const T> box_view(const DeviceArray& array, const char* name) {
  const auto view = input<T>(array, name, 2);
  if (view[1] != 4) throw ArgumentError(name, "boxes of shape (R, 4)", describe_array(array), "");
  return view;
}

void box_iou_binding(const Queue& queue, const DeviceArray& a, const DeviceArray& b,
                     const DeviceArray& y) {
  by_dtype(a, "a", [&](auto zero) {
    using T = decltype(zero);
    const auto first = box_view<T>(a, "a"), second = box_view<T>(b, "b");
    require_shape(y, "y", {first[0], second[0]});
    const auto out = output<T>(y, "y");
    without_gil([&] { box_iou<T>(queue, first, second, out); });
  });
}

void nms_binding(const Queue& queue, const DeviceArray& boxes, double iou_threshold,
                 const DeviceArray& overlaps, const DeviceArray& gone, const DeviceArray& kept) {
  by_dtype(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const auto all = box_view<T>(boxes, "boxes");
    const index_t words = (all[0] + kNmsTile - 1) / kNmsTile;
    require_shape(overlaps, "overlaps", {all[0] < kNmsStrip ? all[0] : kNmsStrip, words});
    require_shape(gone, "gone", {words});
    require_shape(kept, "kept", {all[0]});
    const auto table = output<std::uint64_t>(overlaps, "overlaps");
    const auto suppressed = output<std::uint64_t>(gone, "gone");
    const auto flags = output<std::uint8_t>(kept, "kept");
    without_gil([&] { nms<T>(queue, all, iou_threshold, table, suppressed, flags); });
  });
}

}  // namespace

void bind_boxes(py::module_& module) {
  module.def("box_iou", &box_iou_binding);
  module.def("nms", &nms_binding);
  module.attr("nms_tile") = kNmsTile;
  module.attr("nms_strip") = kNmsStrip;
}

}  // namespace cnncore::cuda
