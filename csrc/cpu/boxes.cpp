// Compiled without contraction to fused multiply-adds: an overlap is compared with a threshold, so
// every machine and backend must round it in the same way.
#include "cpu/boxes.h"

#include <algorithm>
#include <numeric>

#include "cnncore/boxes.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"

namespace cnncore {
namespace {

// Corners and areas as separate lines, so that loops over boxes vectorise.
template <class T>
struct BoxLines {
  const T *x1, *y1, *x2, *y2, *area;

  // Overlap of box i of `other` with box j of these.
  CNNCORE_HD T overlap(const BoxLines& other, index_t i, index_t j) const {
    return box_overlap(other.x1[i], other.y1[i], other.x2[i], other.y2[i], other.area[i], x1[j],
                       y1[j], x2[j], y2[j], area[j]);
  }
};

// Box i of the lines is boxes[order(i)].
template <class T, class Order>
BoxLines<T> to_lines(const T* boxes, index_t n, Order&& order, const Scratch<T>& space) {
  T* line = space.data();
  for (index_t i = 0; i < n; ++i) {
    const T* box = boxes + 4 * order(i);
    for (index_t k = 0; k < 4; ++k) line[k * n + i] = box[k];
    line[4 * n + i] = box_area(box[0], box[1], box[2], box[3]);
  }
  return {line, line + n, line + 2 * n, line + 3 * n, line + 4 * n};
}

}  // namespace

CNNCORE_KERNEL(box_iou);
template <class T>
void box_iou(ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y) {
  const index_t m = a[0], n = b[0];
  const auto same = [](index_t i) { return i; };
  const Scratch<T> row_space(5 * m), col_space(5 * n);
  const BoxLines<T> rows = to_lines(a.data, m, same, row_space);
  const BoxLines<T> cols = to_lines(b.data, n, same, col_space);
  parallel_for(m, grain_for(4 * n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      T* __restrict row = y.data + i * n;
      for (index_t j = 0; j < n; ++j) row[j] = cols.overlap(rows, i, j);
    }
  });
}

CNNCORE_KERNEL(nms);
template <class T>
std::vector<index_t> nms(ArrayView<const T> boxes, ArrayView<const T> scores,
                         double iou_threshold) {
  const index_t n = boxes[0];
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), index_t{0});
  // NaN scores come last: a comparison that they break would be no order at all.
  std::stable_sort(order.begin(), order.end(), [&](index_t i, index_t j) {
    const T a = scores.data[i], b = scores.data[j];
    return a > b || (a == a && b != b);
  });
  const Scratch<T> space(5 * n);
  const BoxLines<T> sorted =
      to_lines(boxes.data, n, [&](index_t i) { return order[static_cast<std::size_t>(i)]; }, space);
  const Scratch<T> gone(n);  // 0 or 1, in the type of the boxes so that the loop vectorises
  std::fill(gone.data(), gone.data() + n, T(0));
  const T threshold = static_cast<T>(iou_threshold);
  std::vector<index_t> kept;
  for (index_t i = 0; i < n; ++i) {
    if (gone[i] != T(0)) continue;
    kept.push_back(order[static_cast<std::size_t>(i)]);
    parallel_for(n - i - 1, 8192, [&](index_t first, index_t last) {
      const BoxLines<T> lines = sorted;  // copies: what a closure refers to may be written below
      const T limit = threshold;
      const index_t offset = i + 1;
      T* __restrict flags = gone.data() + offset;
      for (index_t j = first; j < last; ++j)
        flags[j] = lines.overlap(lines, i, offset + j) > limit ? T(1) : flags[j];
    });
  }
  return kept;
}

#define CNNCORE_INSTANTIATE(T)                                                 \
  template void box_iou(ArrayView<const T>, ArrayView<const T>, ArrayView<T>); \
  template std::vector<index_t> nms(ArrayView<const T>, ArrayView<const T>, double);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
