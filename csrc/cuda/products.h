// The convolution family as matrix products whose factors are never written down.
//
//   direction    rows            columns            depth              A          B
//   forward      O/G             images OH OW       C/G KH KW          weight     windows of x
//   transposed   C/G             pixels of a phase  O/G taps of it     packed     windows of y
//   weight       O/G             C/G KH KW          images OH OW       gy         windows of x
//   matrix       m               n                  k                  a          b
//
// A group is a product of its own; so is each phase of a strided transpose: input pixels
// first, first + stride, … of an axis meet the same filter taps, and along those taps the output
// coordinate changes by a constant, so a phase is an ordinary correlation again.
//
// With channels last (N, H, W, C) the depth runs (KH, KW, C), and neighbours in memory are
// neighbours along the depth: 16 bytes are one access. Weights are packed in the same order.
#pragma once

#include "cpu/conv/shape.h"
#include "cuda/sites.h"

namespace cnncore::cuda {

enum class Direction { forward, transposed, weight, matrix };

// A batch of plain products: unit u is number u / inner of the outer and u % inner of the inner
// steps; the depth is k_runs runs of k. Steps are in elements.
struct MatrixPlan {
  index_t m = 0, n = 0, k = 0, k_runs = 1, units = 1, inner = 1;
  index_t a_row = 0, a_depth = 1, a_run = 0, a_outer = 0, a_inner = 0;
  index_t b_column = 1, b_depth = 0, b_run = 0, b_outer = 0, b_inner = 0;
  index_t c_row = 0, c_column = 1, c_outer = 0, c_inner = 0;
  index_t bias_inner = 0;
};

struct ProductPlan {
  Direction direction = Direction::forward;
  bool channels_last = false;  // the planes; weights of A are packed to match
  ConvShape s{};
  MatrixPlan matrix{};
};

// --- one axis of a correlation -------------------------------------------------------------------

// Output u and tap t meet source coordinate u step + shift + t increment.
struct Walk {
  index_t outputs, taps, step, shift, increment;
  index_t first_tap, tap_step;  // which taps of the filter these are
};

CNNCORE_HD Walk forward_walk(const Window1d& window, index_t outputs) {
  return {outputs, window.kernel, window.stride, -window.before, window.dilation, 0, 1};
}

CNNCORE_HD index_t common_divisor(index_t a, index_t b) {
  while (b != 0) {
    const index_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// Taps k and k + tap_period meet the same phase.
CNNCORE_HD index_t tap_period(const Window1d& window) {
  return window.stride / common_divisor(window.stride, window.dilation);
}

// Pixels first, first + stride, … of an axis of `size`; first < min(stride, size).
CNNCORE_HD Walk phase_walk(const Window1d& window, index_t size, index_t first) {
  const index_t period = tap_period(window);
  Walk walk{ceil_div(size - first, window.stride),     0, 1,     0,
            -window.dilation * period / window.stride, 0, period};
  for (index_t k = 0; k < min_of(period, window.kernel); ++k) {
    const index_t distance = first + window.before - k * window.dilation;
    if (distance % window.stride != 0) continue;
    walk.first_tap = k;
    walk.taps = ceil_div(window.kernel - k, period);
    walk.shift = distance / window.stride;
  }
  return walk;
}

CNNCORE_HD index_t phases(const Window1d& window, index_t size) {
  return min_of(window.stride, size);
}

// The most taps that a phase has.
CNNCORE_HD index_t phase_taps(const Window1d& window) {
  return ceil_div(window.kernel, tap_period(window));
}

// Weights of the transposed direction: (phase, G, C/G, pitch), the depth (O/G, taps) or, with
// channels last, (taps, O/G), padded with zeros to whole 16 bytes of any type.
CNNCORE_HD index_t packed_pitch(const ConvShape& s) {
  return round_up(s.group_outputs() * phase_taps(s.window.h) * phase_taps(s.window.w), 8);
}
CNNCORE_HD index_t phase_count(const ConvShape& s) {
  return phases(s.window.h, s.height) * phases(s.window.w, s.width);
}

// --- planes --------------------------------------------------------------------------------------

// (images, channels, height, width) in memory, or (images, height, width, channels).
struct Planes {
  index_t channels, height, width;
  bool channels_last;

  CNNCORE_HD index_t image() const { return channels * height * width; }
  CNNCORE_HD index_t channel() const { return channels_last ? 1 : height * width; }
  CNNCORE_HD index_t pixel() const { return channels_last ? channels : 1; }
};

// (image, u, v) of the outputs, as pixels of the source.
CNNCORE_HD Axis3 output_pixels(const Planes& source, index_t images, const Walk& h, const Walk& w) {
  Axis3 axis;
  axis.count = static_cast<std::uint32_t>(images * h.outputs * w.outputs);
  axis.nb = static_cast<std::uint32_t>(max_of(1, h.outputs));
  axis.nc = static_cast<std::uint32_t>(max_of(1, w.outputs));
  axis.step_a = source.image();
  axis.step_b = h.step * source.width * source.pixel();
  axis.step_c = w.step * source.pixel();
  axis.hb = static_cast<std::int32_t>(h.step);
  axis.wc = static_cast<std::int32_t>(w.step);
  return axis;
}

// (channel, tap, tap), or with channels last (tap, tap, channel), as pixels of the source.
CNNCORE_HD Axis3 filter_taps(const Planes& source, index_t channels, const Walk& h, const Walk& w) {
  Axis3 axis;
  const index_t row = source.width * source.pixel();
  axis.count = static_cast<std::uint32_t>(channels * h.taps * w.taps);
  axis.start = h.shift * row + w.shift * source.pixel();
  axis.h0 = static_cast<std::int32_t>(h.shift);
  axis.w0 = static_cast<std::int32_t>(w.shift);
  const auto dh = static_cast<std::int32_t>(h.increment),
             dw = static_cast<std::int32_t>(w.increment);
  if (source.channels_last) {
    axis.nb = static_cast<std::uint32_t>(max_of(1, w.taps));
    axis.nc = static_cast<std::uint32_t>(max_of(1, channels));
    axis.step_a = h.increment * row;
    axis.step_b = w.increment * source.pixel();
    axis.step_c = 1;
    axis.ha = dh;
    axis.wb = dw;
  } else {
    axis.nb = static_cast<std::uint32_t>(max_of(1, h.taps));
    axis.nc = static_cast<std::uint32_t>(max_of(1, w.taps));
    axis.step_a = source.channel();
    axis.step_b = h.increment * row;
    axis.step_c = w.increment;
    axis.hb = dh;
    axis.wc = dw;
  }
  return axis;
}

// The right factor: windows of `source`, from channel `begin` on.
CNNCORE_HD Operand windows(const Planes& source, const Axis3& row, const Axis3& depth,
                           index_t begin) {
  Operand b{row, depth, static_cast<std::int32_t>(source.height),
            static_cast<std::int32_t>(source.width)};
  b.row.start += begin * source.channel();
  return b;
}

// --- the four products ---------------------------------------------------------------------------

CNNCORE_HD Product forward_product(const ConvShape& s, bool last, index_t group) {
  const index_t m = s.group_outputs(), c = s.group_channels(), k = c * s.taps();
  const index_t pixels = s.oh() * s.ow();
  const Planes x{s.channels, s.height, s.width, last};
  const Walk h = forward_walk(s.window.h, s.oh()), w = forward_walk(s.window.w, s.ow());
  Product product;
  product.a = {line(m, k, group * m * k), line(k, 1)};
  product.b = windows(x, output_pixels(x, s.images, h, w), filter_taps(x, c, h, w), group * c);
  product.column = runs(s.images, s.outputs * pixels, pixels, 1);
  product.column.start = group * m * pixels;
  product.row_step = pixels;
  product.bias = group * m;
  return product;
}

CNNCORE_HD Product transposed_product(const ConvShape& s, bool last, index_t group, index_t phase) {
  const index_t across = phases(s.window.w, s.width);
  const index_t first_h = phase / across, first_w = phase % across;
  const Walk h = phase_walk(s.window.h, s.height, first_h);
  const Walk w = phase_walk(s.window.w, s.width, first_w);
  const index_t m = s.group_channels(), o = s.group_outputs(), pitch = packed_pitch(s);
  const index_t plane = s.height * s.width;
  const Planes y{s.outputs, s.oh(), s.ow(), last};
  Product product;
  product.a = {line(m, pitch, (phase * s.groups + group) * m * pitch),
               line(o * h.taps * w.taps, 1)};
  product.b = windows(y, output_pixels(y, s.images, h, w), filter_taps(y, o, h, w), group * o);
  product.column = output_pixels({s.channels, s.height, s.width, false}, s.images,
                                 {h.outputs, 0, s.window.h.stride, 0, 0, 0, 0},
                                 {w.outputs, 0, s.window.w.stride, 0, 0, 0, 0});
  product.column.start = group * m * plane + first_h * s.width + first_w;
  product.row_step = plane;
  product.bias = group * m;
  return product;
}

CNNCORE_HD Product weight_product(const ConvShape& s, bool last, index_t group) {
  const index_t m = s.group_outputs(), c = s.group_channels(), k = c * s.taps();
  const index_t pixels = s.oh() * s.ow();
  const Planes x{s.channels, s.height, s.width, last}, gy{s.outputs, s.oh(), s.ow(), last};
  const Walk h = forward_walk(s.window.h, s.oh()), w = forward_walk(s.window.w, s.ow());
  Product product;
  product.a = {line(m, gy.channel(), group * m * gy.channel()),
               runs(s.images, gy.image(), pixels, gy.pixel())};
  product.b = windows(x, filter_taps(x, c, h, w), output_pixels(x, s.images, h, w), group * c);
  product.column = last ? Axis3{} : line(k, 1);
  if (last) {  // (tap, tap, channel) -> (channel, tap, tap)
    product.column.count = static_cast<std::uint32_t>(k);
    product.column.nb = static_cast<std::uint32_t>(s.window.w.kernel);
    product.column.nc = static_cast<std::uint32_t>(max_of(1, c));
    product.column.step_a = s.window.w.kernel;
    product.column.step_b = 1;
    product.column.step_c = s.taps();
  }
  product.column.start = group * m * k;
  product.row_step = k;
  return product;
}

CNNCORE_HD Product matrix_product(const MatrixPlan& p, index_t unit) {
  const index_t outer = unit / p.inner, inner = unit % p.inner;
  Product product;
  product.a = {line(p.m, p.a_row, outer * p.a_outer + inner * p.a_inner),
               runs(p.k_runs, p.a_run, p.k, p.a_depth)};
  product.b = {line(p.n, p.b_column, outer * p.b_outer + inner * p.b_inner),
               runs(p.k_runs, p.b_run, p.k, p.b_depth)};
  product.column = line(p.n, p.c_column, outer * p.c_outer + inner * p.c_inner);
  product.row_step = p.c_row;
  product.bias = inner * p.bias_inner;
  return product;
}

// A unit is a group, a group of a phase (phases vary slowest), or a matrix of the batch.
CNNCORE_HD Product make_product(const ProductPlan& plan, index_t unit) {
  const ConvShape& s = plan.s;
  switch (plan.direction) {
    case Direction::forward:
      return forward_product(s, plan.channels_last, unit);
    case Direction::transposed:
      return transposed_product(s, plan.channels_last, unit % s.groups, unit / s.groups);
    case Direction::weight:
      return weight_product(s, plan.channels_last, unit);
    default:
      return matrix_product(plan.matrix, unit);
  }
}

// The largest sizes that a unit has.
struct ProductSize {
  index_t rows, columns, depth, units;
};

inline ProductSize size_of(const ProductPlan& plan) {
  if (plan.direction == Direction::matrix)
    return {plan.matrix.m, plan.matrix.n, plan.matrix.k_runs * plan.matrix.k, plan.matrix.units};
  const ConvShape& s = plan.s;
  const index_t k = s.group_channels() * s.taps(), outputs = s.images * s.oh() * s.ow();
  switch (plan.direction) {
    case Direction::forward:
      return {s.group_outputs(), outputs, k, s.groups};
    case Direction::transposed:
      return {
          s.group_channels(),
          s.images * ceil_div(s.height, s.window.h.stride) * ceil_div(s.width, s.window.w.stride),
          packed_pitch(s), s.groups * phase_count(s)};
    default:
      return {s.group_outputs(), k, outputs, s.groups};
  }
}

// Whether the counters of the tiled kernels suffice; larger things take the plain kernels.
inline bool fits_tiles(const ProductPlan& plan) {
  constexpr index_t most = index_t{1} << 28;
  const ConvShape& s = plan.s;
  const ProductSize size = size_of(plan);
  const index_t counters = index_t{1} << 31;
  if (size.rows >= counters || size.columns >= counters || size.depth >= counters) return false;
  return plan.direction == Direction::matrix ||
         (s.height + s.window.h.before + s.window.h.after + s.window.h.extent() < most &&
          s.width + s.window.w.before + s.window.w.after + s.window.w.extent() < most);
}

}  // namespace cnncore::cuda
