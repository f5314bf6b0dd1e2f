#include "cpu/conv/winograd_tiles.h"

#include <algorithm>

namespace cnncore {

template <class T>
void TileReader<T>::read(const TileRun& run, index_t channel, index_t lanes, T* space, T* v,
                         index_t stride, index_t next, index_t phase) const {
  static const T zeros[64 / sizeof(T)] = {};
  const index_t y = run.row * step - top, x = run.column * step - left;
  const index_t columns = (run.tiles - 1) * step + extent;
  const index_t first = min_of(columns, max_of(0, -x));
  const index_t last = max_of(first, min_of(columns, images.width - x));
  const index_t above = min_of(extent, max_of(0, -y));
  const index_t below = max_of(above, min_of(extent, images.height - y));
  const index_t inside = last - first;
  const index_t pixel = images.lanes > 1 ? images.lanes : kernels.width;
  // Row i of the run: column x as a vector at line + (i - above) * pitch + (x - first) * pixel.
  const T* line = nullptr;
  index_t pitch = 0;
  const T* const from = images.data + images.offset(run.image, channel);
  if (inside > 0 && images.lanes > 1) {
    pitch = images.width * pixel;
    line = from + (y + above) * pitch + (x + first) * pixel;
  } else if (inside > 0 && below > above) {
    // Whole rows are one run of pixels.
    const index_t pieces = inside == images.width ? 1 : below - above;
    const index_t pixels = (below - above) * inside / pieces;
    for (index_t i = 0; i < pieces; ++i)
      kernels.gather(from + (y + above + i) * images.width + x + first, images.plane(), lanes,
                     pixels, space + i * pixels * pixel);
    pitch = inside * pixel;
    line = space;
  }

  for (index_t q = 0; q < apart * apart; ++q) {
    const index_t at_row = order != nullptr ? order[q].row : q / apart;
    const index_t at_column = order != nullptr ? order[q].column : q % apart;
    WinogradRows<T> rows{};
    rows.first = ceil_div(max_of(0, first - at_column), apart);
    rows.last = ceil_div(max_of(0, last - at_column), apart);
    rows.tiles = run.tiles;
    for (index_t k = 0, i = at_row; i < extent; ++k, i += apart) {
      const bool outside = i < above || i >= below || inside == 0;
      rows.step[k] = outside ? 0 : apart * pixel;
      rows.row[k] =
          outside ? zeros
                  : line + (i - above) * pitch + (apart * rows.first + at_column - first) * pixel;
    }
    expand[order != nullptr ? q : 0](rows, v + q * phase, stride, next);
  }
}

template <class T>
void TileWriter<T>::write(const TileRun& run, index_t channel, index_t lanes, T* pixels,
                          index_t pitch) const {
  // Rows above and pixels left of the image are passed over.
  const index_t width = kernels.width, above = run.row == 0 ? top : 0;
  const index_t before = run.column == 0 ? left : 0;
  const index_t y = run.row * step - top + above, x = run.column * step - left + before;
  const index_t row_pixels = columns(run) - before, rows = min_of(step - above, images.height - y);
  pixels += (above * pitch + before) * width;
  const bool whole = row_pixels == images.width && row_pixels == pitch && images.lanes == 1;
  const index_t pieces = whole ? 1 : rows, piece = rows * row_pixels / pieces;
  if (finish.residual == nullptr && finish.needed())
    finish_run<T>(finish, nullptr, pixels, (rows * pitch - before) * width);
  for (index_t i = 0; i < pieces; ++i) {
    T* const line = pixels + i * pitch * width;
    const index_t pixel = (y + i) * images.width + x;
    const index_t offset = images.offset(run.image, channel) + pixel * images.lanes;
    T* const to = images.data + offset;
    const T* const add = finish.residual != nullptr ? finish.residual + offset : nullptr;
    if (images.lanes == 1) {
      kernels.scatter(line, lanes, piece, to, images.plane());
      for (index_t l = 0; l < lanes && add != nullptr; ++l)
        finish_run(finish, add + l * images.plane(), to + l * images.plane(), piece);
    } else if (images.lanes == width) {
      std::copy_n(line, piece * width, to);
      if (add != nullptr) finish_run(finish, add, to, piece * width);
    } else {
      for (index_t p = 0; p < piece; ++p) {
        T* const target = to + p * images.lanes;
        std::copy_n(line + p * width, width, target);
        if (add != nullptr) finish_run(finish, add + p * images.lanes, target, width);
      }
    }
  }
}

template struct TileReader<float>;
template struct TileReader<double>;
template struct TileWriter<float>;
template struct TileWriter<double>;

}  // namespace cnncore
