#include "cpu/boxes.h"

#include <algorithm>

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace cnncore {
namespace {

template <class T>
ArrayView<const T> box_view(const py::array& array, const char* name) {
  const auto view = input<T>(array, name, 2);
  if (view[1] != 4) throw ArgumentError(name, "boxes of shape (R, 4)", describe_array(array), "");
  return view;
}

py::array box_iou_binding(const py::array& a, const py::array& b) {
  return by_dtype(a, "a", [&](auto zero) {
    using T = decltype(zero);
    const auto first = box_view<T>(a, "a"), second = box_view<T>(b, "b");
    auto y = output<T>({first[0], second[0]});
    without_gil([&] { box_iou<T>(first, second, y.view); });
    return y.array;
  });
}

py::array nms_binding(const py::array& boxes, const py::array& scores, double iou_threshold) {
  return by_dtype(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const auto all = box_view<T>(boxes, "boxes");
    const auto order = input<T>(scores, "scores", 1);
    if (order[0] != all[0])
      throw ArgumentError("scores", "one score for each of " + std::to_string(all[0]) + " boxes",
                          describe_array(scores), "");
    std::vector<index_t> kept;
    without_gil([&] { kept = nms<T>(all, order, iou_threshold); });
    auto result = output<std::int64_t>({static_cast<index_t>(kept.size())});
    std::copy(kept.begin(), kept.end(), result.view.data);
    return result.array;
  });
}

}  // namespace

void bind_boxes(py::module_& module) {
  module.def("box_iou", &box_iou_binding);
  module.def("nms", &nms_binding);
}

}  // namespace cnncore
