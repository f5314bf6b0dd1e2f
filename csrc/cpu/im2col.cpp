// im2col copies, col2im adds: the same walk over (kh, kw, oh), in opposite directions.
#include "cpu/im2col.h"

#include <algorithm>

#include "cnncore/registry.h"
#include "cnncore/threads.h"

namespace cnncore {
namespace {

// Outputs first <= ow < last of one row of windows see pixels of the input row; the others see
// padding.
struct Span {
  index_t first, last, start;  // start: input column of output `first`
};

Span span_inside(const Window1d& window, index_t tap, index_t size, index_t count) {
  Span span;
  window.outputs_inside(tap, size, count, span.first, span.last);
  span.start = window.input(span.first, tap);
  return span;
}

template <class T>
void im2col_plane(const T* x, index_t height, index_t width, const Window2d& window, index_t oh,
                  index_t ow, T* cols) {
  for (index_t kh = 0; kh < window.h.kernel; ++kh) {
    for (index_t kw = 0; kw < window.w.kernel; ++kw) {
      const Span span = span_inside(window.w, kw, width, ow);
      for (index_t i = 0; i < oh; ++i, cols += ow) {
        const index_t row = window.h.input(i, kh);
        if (row < 0 || row >= height || span.first >= span.last) {
          std::fill_n(cols, ow, T(0));
          continue;
        }
        std::fill(cols, cols + span.first, T(0));
        const T* from = x + row * width + span.start;
        if (window.w.stride == 1)
          std::copy_n(from, span.last - span.first, cols + span.first);
        else
          for (index_t j = span.first; j < span.last; ++j, from += window.w.stride) cols[j] = *from;
        std::fill(cols + span.last, cols + ow, T(0));
      }
    }
  }
}

template <class T>
void col2im_plane(const T* cols, index_t height, index_t width, const Window2d& window, index_t oh,
                  index_t ow, T* x) {
  for (index_t kh = 0; kh < window.h.kernel; ++kh) {
    for (index_t kw = 0; kw < window.w.kernel; ++kw) {
      const Span span = span_inside(window.w, kw, width, ow);
      for (index_t i = 0; i < oh; ++i, cols += ow) {
        const index_t row = window.h.input(i, kh);
        if (row < 0 || row >= height || span.first >= span.last) continue;
        T* const to = x + row * width + span.start;
        for (index_t j = span.first; j < span.last; ++j)
          to[(j - span.first) * window.w.stride] += cols[j];
      }
    }
  }
}

}  // namespace

CNNCORE_KERNEL(im2col);
template <class T>
void im2col(const T* x, index_t planes, index_t height, index_t width, const Window2d& window,
            T* cols) {
  const index_t oh = window.h.output_size(height), ow = window.w.output_size(width);
  const index_t size = window.h.kernel * window.w.kernel * oh * ow;
  parallel_for(planes, grain_for(size), [&](index_t begin, index_t end) {
    for (index_t p = begin; p < end; ++p)
      im2col_plane(x + p * height * width, height, width, window, oh, ow, cols + p * size);
  });
}

CNNCORE_KERNEL(col2im);
template <class T>
void col2im(const T* cols, index_t planes, index_t height, index_t width, const Window2d& window,
            T* x, const T* initial, index_t channels) {
  const index_t oh = window.h.output_size(height), ow = window.w.output_size(width);
  const index_t size = window.h.kernel * window.w.kernel * oh * ow;
  parallel_for(planes, grain_for(size + height * width), [&](index_t begin, index_t end) {
    for (index_t p = begin; p < end; ++p) {
      T* const plane = x + p * height * width;
      std::fill_n(plane, height * width, initial != nullptr ? initial[p % channels] : T(0));
      col2im_plane(cols + p * size, height, width, window, oh, ow, plane);
    }
  });
}

template void im2col(const float*, index_t, index_t, index_t, const Window2d&, float*);
template void im2col(const double*, index_t, index_t, index_t, const Window2d&, double*);
template void col2im(const float*, index_t, index_t, index_t, const Window2d&, float*, const float*,
                     index_t);
template void col2im(const double*, index_t, index_t, index_t, const Window2d&, double*,
                     const double*, index_t);

}  // namespace cnncore
