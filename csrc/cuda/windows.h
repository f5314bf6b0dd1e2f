// One thread, one element: im2col, col2im, and the three convolutions straight from their
// definition. The first rung of the ladder, the road for depthwise layers (which have no matrix to
// speak of) and for sizes beyond the counters of the tiled kernels. Backwards gather: a thread owns
// an element and looks for all that contributes to it, in a fixed order.
#pragma once

#include "cpu/conv/shape.h"
#include "cuda/finishing.h"
#include "cuda/launch.h"
#include "cuda/products.h"
#include "cuda/split.h"

namespace cnncore::cuda {

// cols (planes, KH, KW, OH, OW) of x (planes, H, W).
template <class T>
struct Im2Col {
  const T* x;
  T* cols;
  Window2d window;
  index_t height, width;
  Split oh, ow, kernel_h, kernel_w;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I plane = i;
    const I v = ow.take(plane), u = oh.take(plane);
    const I kw = kernel_w.take(plane), kh = kernel_h.take(plane);
    const index_t h = window.h.input(u, kh), w = window.w.input(v, kw);
    const bool inside = h >= 0 && h < height && w >= 0 && w < width;
    cols[i] = inside ? x[(plane * height + h) * width + w] : T{};
  }
};

// One axis of a window as a pixel sees it.
struct Seen {
  Window1d window;
  Split stride;
  index_t count;  // of outputs

  Seen(const Window1d& window_, index_t count_)
      : window(window_), stride(window_.stride), count(count_) {}

  // f(tap, output) for every output that meets pixel `at`, taps ascending.
  template <class Function>
  CNNCORE_HD void each_meeting(index_t at, const Function& f) const {
    index_t distance = at + window.before;
    for (index_t tap = 0; tap < window.kernel && distance >= 0; ++tap) {
      const index_t output = distance < (index_t{1} << 31)
                                 ? stride.quotient(static_cast<std::int32_t>(distance))
                                 : stride.quotient(distance);
      if (output * window.stride == distance && output < count) f(tap, output);
      distance -= window.dilation;
    }
  }
};

// x (planes, H, W): each pixel adds up the columns that hold it, plus bias[plane % channels].
template <class T>
struct Col2Im {
  const T* cols;
  T* x;
  Seen down, across;
  Split height, width, channels;
  Finishing<T> finishing;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    using Sum = typename Computing<T>::type;
    I plane = i;
    const I w = width.take(plane), h = height.take(plane);
    const index_t kernel_w = across.window.kernel, oh = down.count, ow = across.count;
    const T* const from = cols + plane * down.window.kernel * kernel_w * oh * ow;
    Sum sum = 0;
    down.each_meeting(h, [&](index_t kh, index_t u) {
      across.each_meeting(w, [&](index_t kw, index_t v) {
        sum += widen(from[((kh * kernel_w + kw) * oh + u) * ow + v]);
      });
    });
    x[i] = finished(finishing, sum, channels.take(plane), i);
  }
};

// y (N, O, OH, OW)
template <class T>
struct DirectForward {
  const T *x, *weight;
  T* y;
  ConvShape s;
  Split oh, ow, outputs, group_outputs;
  Finishing<T> finishing;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    using Sum = typename Computing<T>::type;
    I n = i;
    const I v = ow.take(n), u = oh.take(n), o = outputs.take(n);
    const index_t c = s.group_channels(), plane = s.height * s.width;
    const index_t first = static_cast<index_t>(group_outputs.quotient(o)) * c;
    const T* from = x + (n * s.channels + first) * plane;
    const T* filter = weight + o * c * s.taps();
    const index_t h0 = s.window.h.start(u), w0 = s.window.w.start(v);
    Sum sum = 0;
    for (index_t k = 0; k < c; ++k, from += plane) {
      index_t h = h0;
      for (index_t kh = 0; kh < s.window.h.kernel; ++kh, h += s.window.h.dilation) {
        const bool row_inside = h >= 0 && h < s.height;
        index_t w = w0;
        for (index_t kw = 0; kw < s.window.w.kernel; ++kw, w += s.window.w.dilation, ++filter)
          if (row_inside && w >= 0 && w < s.width)
            sum += widen(*filter) * widen(from[h * s.width + w]);
      }
    }
    y[i] = finished(finishing, sum, o, i);
  }
};

// x (N, C, H, W)
template <class T>
struct DirectTransposed {
  const T *y, *weight;
  T* x;
  ConvShape s;
  Seen down, across;
  Split height, width, channels, group_channels;
  Finishing<T> finishing;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    using Sum = typename Computing<T>::type;
    I n = i;
    const I w = width.take(n), h = height.take(n), c = channels.take(n);
    I group = c;
    const I k = group_channels.take(group);
    const index_t outputs = s.group_outputs(), taps = s.taps(), ow = across.count;
    const index_t plane = down.count * ow, step = group_channels.size * taps;
    const T* const from = y + (n * s.outputs + group * outputs) * plane;
    const T* const filter = weight + (group * outputs * group_channels.size + k) * taps;
    Sum sum = 0;
    down.each_meeting(h, [&](index_t kh, index_t u) {
      across.each_meeting(w, [&](index_t kw, index_t v) {
        const T* tap = filter + kh * s.window.w.kernel + kw;
        const T* value = from + u * ow + v;
        for (index_t o = 0; o < outputs; ++o, tap += step, value += plane)
          sum += widen(*tap) * widen(*value);
      });
    });
    x[i] = finished(finishing, sum, c, i);
  }
};

// gweight (O, C/G, KH, KW): a block adds up one element; each thread takes every kThreads-th output
// pixel, then the threads' sums are added pairwise. The order depends on the shapes only.
template <class T>
struct DirectWeight {
  static constexpr int kThreads = 128;
  using Sum = typename Computing<T>::type;
  struct Shared {
    Sum sum[kThreads];
  };

  const T *x, *gy;
  T* gweight;
  ConvShape s;
  index_t oh, ow;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t kw = block.index % s.window.w.kernel, above = block.index / s.window.w.kernel;
    const index_t kh = above % s.window.h.kernel, filter = above / s.window.h.kernel;
    const index_t k = filter % s.group_channels(), o = filter / s.group_channels();
    const index_t c = o / s.group_outputs() * s.group_channels() + k;
    index_t u_begin, u_end, v_begin, v_end;  // outputs whose tap falls on a pixel
    s.window.h.outputs_inside(kh, s.height, oh, u_begin, u_end);
    s.window.w.outputs_inside(kw, s.width, ow, v_begin, v_end);
    const index_t across = v_end - v_begin, plane = (u_end - u_begin) * across;

    block.each_thread([&](int t) {
      Sum sum = 0;
      for (index_t n = 0; n < s.images; ++n) {
        const T* const from = x + (n * s.channels + c) * s.height * s.width;
        const T* const gradient = gy + (n * s.outputs + o) * oh * ow;
        for (index_t p = t; p < plane; p += kThreads) {
          const index_t u = u_begin + p / across, v = v_begin + p % across;
          sum += widen(gradient[u * ow + v]) *
                 widen(from[s.window.h.input(u, kh) * s.width + s.window.w.input(v, kw)]);
        }
      }
      shared.sum[t] = sum;
    });
    for (int half = kThreads / 2; half > 0; half /= 2)
      block.each_thread([&](int t) {
        if (t < half) shared.sum[t] += shared.sum[t + half];
      });
    block.each_thread([&](int t) {
      if (t == 0) narrow(shared.sum[0], gweight[block.index]);
    });
  }
};

template <class T>
struct Zeros {
  T* y;
  CNNCORE_HD void operator()(index_t i) const { y[i] = T{}; }
};

// --- weights and planes in another order ---------------------------------------------------------

// (phase, G, C/G, pitch) of weight (O, C/G, KH, KW), see packed_pitch.
template <class T>
struct PackTransposed {
  const T* weight;
  T* packed;
  ConvShape s;
  bool channels_last;

  CNNCORE_HD void operator()(index_t i) const {
    const index_t pitch = packed_pitch(s), k = i % pitch, row = i / pitch;
    const index_t c = row % s.group_channels(), unit = row / s.group_channels();
    const index_t group = unit % s.groups, phase = unit / s.groups;
    const index_t across = phases(s.window.w, s.width);
    const Walk h = phase_walk(s.window.h, s.height, phase / across);
    const Walk w = phase_walk(s.window.w, s.width, phase % across);
    const index_t taps = h.taps * w.taps, outputs = s.group_outputs();
    T value{};
    if (k < outputs * taps) {
      const index_t o = channels_last ? k % outputs : k / taps;
      const index_t tap = channels_last ? k / outputs : k % taps;
      const index_t kh = h.first_tap + tap / w.taps * h.tap_step;
      const index_t kw = w.first_tap + tap % w.taps * w.tap_step;
      value = weight[(((group * outputs + o) * s.group_channels() + c) * s.window.h.kernel + kh) *
                         s.window.w.kernel +
                     kw];
    }
    packed[i] = value;
  }
};

// (O, KH, KW, C/G) of weight (O, C/G, KH, KW).
template <class T>
struct PackForward {
  const T* weight;
  T* packed;
  index_t channels, taps;

  CNNCORE_HD void operator()(index_t i) const {
    const index_t c = i % channels, rest = i / channels, tap = rest % taps, o = rest / taps;
    packed[i] = weight[(o * channels + c) * taps + tap];
  }
};

// (images, pixels, channels) of x (images, channels, pixels), by squares that pass through shared
// memory so that both sides are read and written along their memory.
template <class T>
struct ChannelsLast {
  static constexpr int kSide = 32, kThreads = 256;
  struct Shared {
    T value[kSide][kSide + 1];  // the odd pitch keeps columns in different banks
  };

  const T* x;
  T* y;
  index_t channels, pixels;

  CNNCORE_HD index_t blocks(index_t images) const {
    return images * ceil_div(channels, kSide) * ceil_div(pixels, kSide);
  }

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t across = ceil_div(pixels, kSide), down = ceil_div(channels, kSide);
    const index_t p0 = block.index % across * kSide, rest = block.index / across;
    const index_t c0 = rest % down * kSide, image = rest / down * channels * pixels;
    block.each_thread([&](int t) {
      const index_t p = p0 + t % kSide;
      for (int r = t / kSide; r < kSide; r += kThreads / kSide)
        if (p < pixels && c0 + r < channels)
          shared.value[r][t % kSide] = x[image + (c0 + r) * pixels + p];
    });
    block.each_thread([&](int t) {
      const index_t c = c0 + t % kSide;
      for (int r = t / kSide; r < kSide; r += kThreads / kSide)
        if (c < channels && p0 + r < pixels)
          y[image + (p0 + r) * channels + c] = shared.value[t % kSide][r];
    });
  }
};

}  // namespace cnncore::cuda
