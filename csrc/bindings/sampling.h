// Taps and Bins of cnncore/taps.py, checked, as views.
#pragma once

#include <string>

#include "bindings/array.h"
#include "cnncore/taps.h"

namespace cnncore {

// An index that will address memory.
inline void check_index(const char* name, index_t value, index_t size) {
  if (value < 0 || value >= size)
    throw ArgumentError(name, "indices from 0 to " + std::to_string(size - 1),
                        std::to_string(value), "indices of what is there");
}

// The number of groups must be 1 or that of the regions.
inline void check_groups(const char* name, index_t groups, index_t regions) {
  CNNCORE_REQUIRE(groups == 1 || groups == regions, name,
                  "one group or one for each of " + std::to_string(regions) + " regions", groups);
}

// Image indices are looked at here; without them, region r is image r.
inline ArrayView<const std::int64_t> image_view(const py::object& image, index_t regions,
                                                index_t images) {
  ArrayView<const std::int64_t> view;
  if (image.is_none()) {
    CNNCORE_REQUIRE(regions == images, "image", "indices where regions are not images",
                    std::to_string(regions) + " regions and " + std::to_string(images) + " images");
    return view;
  }
  view = input<std::int64_t>(image.cast<py::array>(), "image", 1);
  CNNCORE_REQUIRE(view[0] == regions, "image",
                  "one index for each region: " + std::to_string(regions), view[0]);
  for (index_t r = 0; r < regions; ++r) check_index("image", view.data[r], images);
  return view;
}

inline TapsView taps_view(const char* name, index_t size, const py::array& index,
                          const py::array& weight, const py::array& count) {
  const auto i = input<std::int64_t>(index, name, 3);
  const auto w = input<double>(weight, name, 3);
  const auto c = input<std::int64_t>(count, name, 2);
  const bool same = w[0] == i[0] && w[1] == i[1] && w[2] == i[2] && c[0] == i[0] && c[1] == i[1];
  CNNCORE_REQUIRE(
      same && size >= 0, name, "index and weight (G, P, T) and count (G, P)",
      describe_array(index) + ", " + describe_array(weight) + ", " + describe_array(count));
  return {size, i[0], i[1], i[2], i.data, w.data, c.data};
}

inline BinsView bins_view(const char* name, index_t size, const py::array& start,
                          const py::array& end) {
  const auto s = input<std::int64_t>(start, name, 2);
  const auto e = input<std::int64_t>(end, name, 2);
  CNNCORE_REQUIRE(s[0] == e[0] && s[1] == e[1], name, "start and end of one shape (G, P)",
                  describe_array(start) + ", " + describe_array(end));
  for (index_t i = 0; i < s.size(); ++i)
    if (s.data[i] < e.data[i]) {
      check_index(name, s.data[i], size);
      check_index(name, e.data[i] - 1, size);
    }
  return {size, s[0], s[1], s.data, e.data};
}

}  // namespace cnncore
