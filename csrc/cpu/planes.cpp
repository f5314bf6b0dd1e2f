#include "cpu/planes.h"

#include <algorithm>

namespace cnncore {
namespace {

// Short rows are common (4 to 16 pixels) and a library call for each would cost more than the copy.
template <class T>
inline void copy_run(const T* from, index_t count, T* to) {
  if (count >= 32) {
    std::copy_n(from, count, to);
  } else {
    for (index_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

template <class T>
inline void zero_run(index_t count, T* to) {
  for (index_t i = 0; i < count; ++i) to[i] = T(0);
}

}  // namespace

index_t AxisTaps::lowest() const {
  return shift.empty() ? 0 : *std::min_element(shift.begin(), shift.end());
}

index_t AxisTaps::highest() const {
  return shift.empty() ? 0 : *std::max_element(shift.begin(), shift.end());
}

template <class T>
void copy_planes(const Planes<T>& source, index_t channels, const AxisTaps& h, index_t first,
                 index_t rows, const AxisTaps& w, index_t columns, T* local, index_t pitch) {
  const index_t local_rows = h.extent(rows), local_columns = w.extent(columns);
  const index_t top = first * h.step + h.lowest(), left = w.lowest();
  // Local columns begin <= j < end lie inside the source.
  const Window1d line{1, w.copy_step(), -left, 0, 1};
  index_t begin, end;
  line.outputs_inside(0, source.width, local_columns, begin, end);
  const index_t offset = left + begin * w.copy_step();
  for (index_t c = 0; c < channels; ++c) {
    T* to = local + c * pitch;
    const T* const plane = source.data + c * source.channel_stride;
    for (index_t r = 0; r < local_rows; ++r, to += local_columns) {
      const index_t row = top + r * h.copy_step();
      if (row < 0 || row >= source.height || begin >= end) {
        zero_run(local_columns, to);
        continue;
      }
      const T* const from = plane + row * source.width + offset;
      zero_run(begin, to);
      if (w.copy_step() == 1) {
        copy_run(from, end - begin, to + begin);
      } else {
        for (index_t j = begin; j < end; ++j) to[j] = from[(j - begin) * w.copy_step()];
      }
      zero_run(local_columns - end, to + end);
    }
  }
}

template void copy_planes(const Planes<float>&, index_t, const AxisTaps&, index_t, index_t,
                          const AxisTaps&, index_t, float*, index_t);
template void copy_planes(const Planes<double>&, index_t, const AxisTaps&, index_t, index_t,
                          const AxisTaps&, index_t, double*, index_t);

PixelBlocks::PixelBlocks(index_t images_, index_t grid_h_, index_t grid_w_, index_t wanted_pixels)
    : images(images_), grid_h(grid_h_), grid_w(grid_w_) {
  const index_t rows = max_of(1, wanted_pixels / max_of(1, grid_w));
  bands = max_of(1, ceil_div(grid_h, rows));
  band = max_of(1, ceil_div(grid_h, bands));
  bands = max_of(1, ceil_div(grid_h, band));
  images_per_block = bands > 1 ? 1 : max_of(1, min_of(images, rows / max_of(1, grid_h)));
  // Even out: 9 images in blocks of 8 become 5 and 4.
  const index_t blocks = ceil_div(max_of(1, images), images_per_block);
  images_per_block = ceil_div(max_of(1, images), blocks);
}

PixelBlocks::Block PixelBlocks::block(index_t index) const {
  const index_t image = index / bands * images_per_block, row = index % bands * band;
  return {image, min_of(images_per_block, images - image), row, min_of(band, grid_h - row)};
}

}  // namespace cnncore
