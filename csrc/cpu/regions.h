// Regions of interest by the image they lie in.
#pragma once

#include <vector>

#include "cnncore/view.h"

namespace cnncore {

inline index_t image_of(const ArrayView<const std::int64_t>& image, index_t region) {
  return image.data == nullptr ? region : image.data[region];
}

// Regions by image, those of one image in their order.
struct RegionLists {
  RegionLists(const ArrayView<const std::int64_t>& image, index_t regions, index_t images)
      : begin(static_cast<std::size_t>(images) + 1, 0), list(static_cast<std::size_t>(regions)) {
    for (index_t r = 0; r < regions; ++r) ++begin[static_cast<std::size_t>(image_of(image, r)) + 1];
    for (std::size_t n = 1; n < begin.size(); ++n) begin[n] += begin[n - 1];
    std::vector<index_t> next(begin.begin(), begin.end() - 1);
    for (index_t r = 0; r < regions; ++r)
      list[static_cast<std::size_t>(next[static_cast<std::size_t>(image_of(image, r))]++)] = r;
  }

  template <class Function>
  void each(index_t image, Function&& visit) const {
    const auto n = static_cast<std::size_t>(image);
    for (index_t i = begin[n]; i < begin[n + 1]; ++i) visit(list[static_cast<std::size_t>(i)]);
  }

  std::vector<index_t> begin, list;
};

}  // namespace cnncore
