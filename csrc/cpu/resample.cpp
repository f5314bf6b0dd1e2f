#include "cpu/resample.h"

#include <cstring>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/axis.h"
#include "cpu/dispatch_isa.h"
#include "cpu/isa/resample_block.h"
#include "cpu/regions.h"
#include "cpu/resample_block.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void resample_plane_loop(
    const PlanePair<T>& plane, const AxisGroup<T>& rows, const AxisGroup<T>& cols, T* line))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> bool resample_windows())
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void sum_columns_loop(const T* x, index_t length,
                                                                      index_t inner,
                                                                      index_t columns, T* y))

namespace {

// Whether the loops take whole vectors of a plane's columns, so that nothing is gained by putting
// channels side by side.
template <class T>
bool regular(const Axis<T>& cols) {
  const AxisGroup<T>* const group = cols.shared();
  if (group == nullptr) return false;
  return group->step > 0 || group->repeat > 0 ||
         (group->window != nullptr && group->length >= kAxisBlock &&
          CNNCORE_SELECT_ISA(resample_windows<T>)());
}

template <class T>
bool covers(const Axis<T>& axis, index_t size) {
  return axis.shared() != nullptr && axis.shared()->length == size;
}

// Multiply-adds of one plane: every output row mixes lines of the input, then its columns.
template <class T>
index_t plane_work(const Axis<T>& rows, const Axis<T>& cols, index_t out_rows) {
  return static_cast<index_t>(rows.mean_work() * static_cast<double>(cols.widest()) / 8 +
                              static_cast<double>(out_rows) * cols.mean_work()) +
         1;
}

template <class T>
void position_sensitive_forward(ArrayView<const T> x, const ArrayView<const std::int64_t>& image,
                                const TapsView& rows, const TapsView& cols, ArrayView<T> y) {
  const index_t channels = y[1], ph = y[2], pw = y[3], plane = x[2] * x[3];
  parallel_for(y[0] * channels, grain_for(ph * pw * rows.taps * cols.taps),
               [&](index_t first, index_t last) {
                 for (index_t task = first; task < last; ++task) {
                   const index_t r = task / channels, c = task % channels;
                   const T* from = x.data + (image_of(image, r) * x[1] + c * ph * pw) * plane;
                   T* to = y.data + task * ph * pw;
                   for (index_t bin = 0; bin < ph * pw; ++bin)
                     to[bin] = sample_plane(from + bin * plane, rows,
                                            rows.row(rows.group_of(r), bin / pw), cols,
                                            cols.row(cols.group_of(r), bin % pw));
                 }
               });
}

// Input channel (c · PH + ph) · PW + pw belongs to one output (c, ph, pw) alone.
template <class T>
void position_sensitive_adjoint(ArrayView<const T> gy, const RegionLists& regions,
                                const TapsView& rows, const TapsView& cols, ArrayView<T> gx) {
  const index_t channels = gx[1], ph = gy[2], pw = gy[3], plane = gx[2] * gx[3];
  parallel_for(gx[0] * channels, grain_for(plane), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      const index_t channel = task % channels, bin = channel % (ph * pw);
      T* to = gx.data + task * plane;
      std::memset(to, 0, static_cast<std::size_t>(plane) * sizeof(T));
      regions.each(task / channels, [&](index_t r) {
        const T g = gy.data[r * channels + channel];
        const index_t row = rows.row(rows.group_of(r), bin / pw);
        const index_t col = cols.row(cols.group_of(r), bin % pw);
        for (index_t s = 0; s < rows.count[row]; ++s)
          for (index_t t = 0; t < cols.count[col]; ++t) {
            const index_t i = row * rows.taps + s, j = col * cols.taps + t;
            to[rows.index[i] * cols.size + cols.index[j]] +=
                static_cast<T>(rows.weight[i]) * (static_cast<T>(cols.weight[j]) * g);
          }
      });
    }
  });
}

}  // namespace

namespace {

// Whether the single output is the whole plane, every pixel with the same weight.
bool whole_planes(const TapsView& rows, const TapsView& cols) {
  for (const TapsView* axis : {&rows, &cols}) {
    if (axis->groups != 1 || axis->length != 1 || axis->taps != axis->size || axis->size == 0 ||
        axis->count[0] != axis->size)
      return false;
    for (index_t t = 0; t < axis->size; ++t)
      if (axis->index[t] != t || axis->weight[t] != axis->weight[0]) return false;
  }
  return true;
}

// A global average.
template <class T>
void plane_sums(ArrayView<const T> x, const ArrayView<const std::int64_t>& image,
                const TapsView& rows, const TapsView& cols, ArrayView<T> y) {
  const auto loop = CNNCORE_SELECT_ISA(sum_columns_loop<T>);
  const index_t channels = y[1], pixels = x[2] * x[3];
  const T weight = static_cast<T>(rows.weight[0] * cols.weight[0]);
  parallel_for(y[0] * channels, grain_for(pixels), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      const index_t plane = image_of(image, task / channels) * channels + task % channels;
      loop(x.data + plane * pixels, pixels, 1, 1, y.data + task);
      y.data[task] *= weight;
    }
  });
}

}  // namespace

CNNCORE_KERNEL(resample);
template <class T>
void resample(ArrayView<const T> x, ArrayView<const std::int64_t> image, const TapsView& rows,
              const TapsView& cols, bool position_sensitive, ArrayView<T> y) {
  const Axis<T> row_axis(rows, "rows", false), col_axis(cols, "cols", false);
  if (position_sensitive) return position_sensitive_forward(x, image, rows, cols, y);
  const index_t channels = y[1], ph = y[2], pw = y[3], height = x[2], width = x[3];
  if (y.size() == 0) return;  // there may be no groups to look at
  if (whole_planes(rows, cols)) return plane_sums(x, image, rows, cols, y);
  if (image.data == nullptr ? channels >= kChannelBlock && !regular(col_axis)
                            : worth_blocks(x[0], channels, height * width, y[0], ph * pw))
    return resample_blocks(x, image, row_axis, col_axis, plane_work(row_axis, col_axis, ph), y);
  const auto loop = CNNCORE_SELECT_ISA(resample_plane_loop<T>);
  parallel_for(y[0] * channels, grain_for(plane_work(row_axis, col_axis, ph)),
               [&](index_t first, index_t last) {
                 const Scratch<T> line(kLines * col_axis.line());
                 for (index_t task = first; task < last; ++task) {
                   const index_t r = task / channels, c = task % channels;
                   const PlanePair<T> plane{
                       x.data + (image_of(image, r) * channels + c) * height * width,
                       width,
                       x.data + x.size(),
                       y.data + task * ph * pw,
                       pw,
                       false};
                   loop(plane, row_axis.group_of(r), col_axis.group_of(r), line.data());
                 }
               });
}

// The same loop with both matrices transposed, adding into one plane of gx per task: the work is
// split over outputs, and the regions of an image are added in their order.
CNNCORE_KERNEL(resample_adjoint);
template <class T>
void resample_adjoint(ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                      const TapsView& rows, const TapsView& cols, bool position_sensitive,
                      ArrayView<T> gx) {
  const Axis<T> row_axis(rows, "rows", true), col_axis(cols, "cols", true);
  const index_t images = gx[0], channels = gx[1], height = gx[2], width = gx[3];
  const RegionLists regions(image, gy[0], images);
  if (position_sensitive) return position_sensitive_adjoint(gy, regions, rows, cols, gx);
  const index_t ph = gy[2], pw = gy[3];
  if (image.data == nullptr ? channels >= kChannelBlock && !regular(col_axis)
                            : worth_blocks(images, channels, height * width, gy[0], ph * pw))
    return resample_blocks_adjoint(gy, regions, row_axis, col_axis, gx);
  // Where every image is its own region and all pixels are reached, they are written once; else
  // regions add to zeros.
  const bool covered = image.data == nullptr && covers(row_axis, height) && covers(col_axis, width);
  const auto loop = CNNCORE_SELECT_ISA(resample_plane_loop<T>);
  const index_t work = plane_work(row_axis, col_axis, height) * gy[0] / max_of(1, images);
  parallel_for(images * channels, grain_for(work + height * width / 8),
               [&](index_t first, index_t last) {
                 const Scratch<T> line(kLines * col_axis.line());
                 for (index_t task = first; task < last; ++task) {
                   const index_t c = task % channels;
                   T* to = gx.data + task * height * width;
                   if (!covered)
                     std::memset(to, 0, static_cast<std::size_t>(height * width) * sizeof(T));
                   regions.each(task / channels, [&](index_t r) {
                     const PlanePair<T> plane{gy.data + (r * channels + c) * ph * pw,
                                              pw,
                                              gy.data + gy.size(),
                                              to,
                                              width,
                                              !covered};
                     loop(plane, row_axis.group_of(r), col_axis.group_of(r), line.data());
                   });
                 }
               });
}

#define CNNCORE_INSTANTIATE(T)                                                               \
  template void resample(ArrayView<const T>, ArrayView<const std::int64_t>, const TapsView&, \
                         const TapsView&, bool, ArrayView<T>);                               \
  template void resample_adjoint(ArrayView<const T>, ArrayView<const std::int64_t>,          \
                                 const TapsView&, const TapsView&, bool, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
