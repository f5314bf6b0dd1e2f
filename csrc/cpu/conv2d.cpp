#include "cpu/conv2d.h"

#include <algorithm>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/correlate.h"
#include "cpu/gemm.h"
#include "cpu/grouped_direct.h"
#include "cpu/im2col.h"

namespace cnncore {
namespace {

// Depthwise layers have no matrix to speak of.
bool is_depthwise(const ConvShape& s) {
  return s.groups > 1 && s.group_channels() * s.group_outputs() <= 2;
}

template <class T>
DirectPlanes<T> direct_planes(const ConvShape& s) {
  return {s.window, s.height, s.width, s.oh(), s.ow()};
}

// --- depthwise -----------------------------------------------------------------------------------

template <class T>
void depthwise_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const DirectPlanes<T> planes = direct_planes<T>(s);
  const auto kernel = direct_kernels<T>().forward;
  const index_t in = s.height * s.width, out = planes.oh * planes.ow;
  parallel_for(s.images * s.outputs, grain_for(out * s.taps()), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t n = i / s.outputs, o = i % s.outputs, group = o / s.group_outputs();
      std::fill_n(y + i * out, out, bias != nullptr ? bias[o] : T(0));
      for (index_t c = 0; c < s.group_channels(); ++c)
        kernel(planes, x + (n * s.channels + group * s.group_channels() + c) * in,
               weight + (o * s.group_channels() + c) * s.taps(), y + i * out);
    }
  });
}

template <class T>
void depthwise_transpose(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x) {
  const DirectPlanes<T> planes = direct_planes<T>(s);
  const auto kernel = direct_kernels<T>().transpose;
  const index_t in = s.height * s.width, out = planes.oh * planes.ow;
  parallel_for(s.images * s.channels, grain_for(out * s.taps()), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t n = i / s.channels, channel = i % s.channels;
      const index_t group = channel / s.group_channels(), c = channel % s.group_channels();
      std::fill_n(x + i * in, in, bias != nullptr ? bias[channel] : T(0));
      for (index_t j = 0; j < s.group_outputs(); ++j) {
        const index_t o = group * s.group_outputs() + j;
        kernel(planes, y + (n * s.outputs + o) * out,
               weight + (o * s.group_channels() + c) * s.taps(), x + i * in);
      }
    }
  });
}

template <class T>
void depthwise_weight(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  const DirectPlanes<T> planes = direct_planes<T>(s);
  const auto kernel = direct_kernels<T>().weight;
  const index_t in = s.height * s.width, out = planes.oh * planes.ow;
  parallel_for(s.outputs * s.group_channels(), grain_for(s.images * out * s.taps()),
               [&](index_t begin, index_t end) {
                 for (index_t i = begin; i < end; ++i) {
                   const index_t o = i / s.group_channels(), c = i % s.group_channels();
                   const index_t channel = o / s.group_outputs() * s.group_channels() + c;
                   T* const target = gweight + i * s.taps();
                   std::fill_n(target, s.taps(), T(0));
                   for (index_t n = 0; n < s.images; ++n)
                     kernel(planes, x + (n * s.channels + channel) * in,
                            gy + (n * s.outputs + o) * out, target);
                 }
               });
}

// --- explicit column matrix ----------------------------------------------------------------------
// For one image and one group: y = W cols, cols = Wᵀ y, gW = gy colsᵀ.

template <class T>
MatrixView<T> row_major(const T* data, index_t rows, index_t columns) {
  return {data, rows, columns, columns, 1};
}

template <class T>
MatrixView<T> transposed(const MatrixView<T>& m) {
  return {m.data, m.columns, m.rows, m.column_stride, m.row_stride};
}

// Calls f(input planes, output planes, group) for every image and group.
template <class Function>
void for_each_group(const ConvShape& s, Function f) {
  for (index_t n = 0; n < s.images; ++n)
    for (index_t g = 0; g < s.groups; ++g)
      f((n * s.channels + g * s.group_channels()) * s.height * s.width,
        (n * s.outputs + g * s.group_outputs()) * s.oh() * s.ow(), g);
}

template <class T>
void column_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    im2col(x + in, s.group_channels(), s.height, s.width, s.window, cols.data());
    for (index_t o = 0; o < s.group_outputs() && bias != nullptr; ++o)
      std::fill_n(y + out + o * pixels, pixels, bias[g * s.group_outputs() + o]);
    gemm(row_major(weight + g * s.group_outputs() * depth, s.group_outputs(), depth),
         row_major<T>(cols.data(), depth, pixels), y + out, pixels, bias != nullptr);
  });
}

template <class T>
void column_transpose(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    gemm(transposed(row_major(weight + g * s.group_outputs() * depth, s.group_outputs(), depth)),
         row_major(y + out, s.group_outputs(), pixels), cols.data(), pixels, false);
    col2im(cols.data(), s.group_channels(), s.height, s.width, s.window, x + in,
           bias != nullptr ? bias + g * s.group_channels() : nullptr, s.group_channels());
  });
}

template <class T>
void column_weight(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  std::fill_n(gweight, s.outputs * depth, T(0));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    im2col(x + in, s.group_channels(), s.height, s.width, s.window, cols.data());
    gemm(row_major(gy + out, s.group_outputs(), pixels),
         transposed(row_major<T>(cols.data(), depth, pixels)),
         gweight + g * s.group_outputs() * depth, depth, true);
  });
}

// --- implicit matrix product ---------------------------------------------------------------------

template <class T>
void implicit_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t depth = s.group_channels() * s.taps(), outputs = s.group_outputs();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
  const index_t size = packed_size(kernels, depth, outputs);
  Scratch<T> panels(checked_product(size, s.groups));
  Correlation<T> job{};
  job.images = s.images;
  job.channels = s.group_channels();
  job.source_image_stride = s.channels * in;
  job.h.step = s.window.h.stride;
  job.w.step = s.window.w.stride;
  for (index_t k = 0; k < s.window.h.kernel; ++k) job.h.shift.push_back(s.window.h.input(0, k));
  for (index_t k = 0; k < s.window.w.kernel; ++k) job.w.shift.push_back(s.window.w.input(0, k));
  job.grid_h = s.oh();
  job.grid_w = s.ow();
  job.outputs = outputs;
  job.target_image_stride = s.outputs * out;
  job.target_channel_stride = out;
  job.target_row_stride = s.ow();
  job.target_column_stride = 1;
  std::vector<Correlation<T>> jobs;
  for (index_t g = 0; g < s.groups; ++g) {
    pack_panels(kernels, transposed(row_major(weight + g * outputs * depth, outputs, depth)),
                panels.data() + g * size);
    job.source = {x + g * s.group_channels() * in, s.height, s.width, in};
    job.panels = panels.data() + g * size;
    job.bias = bias != nullptr ? bias + g * outputs : nullptr;
    job.target = y + g * outputs * out;
    jobs.push_back(job);
  }
  correlate(jobs);
}

// One phase of a strided transpose along one axis: input pixels phase, phase + stride, … see the
// taps k with (phase + before - k d) divisible by the stride, at output (phase + before - k d)/s.
struct Phase {
  index_t first;                // first input pixel
  std::vector<index_t> kernel;  // the taps
  AxisTaps taps;
  index_t count;  // pixels
};

std::vector<Phase> phases_of(const Window1d& window, index_t size) {
  std::vector<Phase> phases;
  for (index_t first = 0; first < min_of(window.stride, size); ++first) {
    Phase phase{first, {}, {}, ceil_div(size - first, window.stride)};
    for (index_t k = 0; k < window.kernel; ++k) {
      const index_t distance = first + window.before - k * window.dilation;
      if (distance % window.stride != 0) continue;
      phase.kernel.push_back(k);
      phase.taps.shift.push_back(distance / window.stride);
    }
    phases.push_back(phase);
  }
  return phases;
}

// Weights of one phase and group as panels: rows (o, kh, kw), columns c.
template <class T>
void pack_phase(const TileKernels<T>& kernels, const ConvShape& s, const T* weight, const Phase& h,
                const Phase& w, T* panels) {
  const index_t channels = s.group_channels(), width = kernels.panel_columns();
  const index_t taps = h.taps.taps() * w.taps.taps(), depth = s.group_outputs() * taps;
  const index_t panel_count = kernels.panels(channels);
  parallel_for(panel_count * s.group_outputs(), grain_for(taps * width),
               [&](index_t begin, index_t end) {
                 for (index_t i = begin; i < end; ++i) {
                   const index_t p = i / s.group_outputs(), o = i % s.group_outputs();
                   const index_t lanes = kernels.lanes(p, channels);
                   const index_t columns = min_of(lanes, channels - p * width);
                   T* to = panels + p * width * depth + o * taps * lanes;
                   const T* const from = weight + (o * channels + p * width) * s.taps();
                   for (index_t kh : h.kernel)
                     for (index_t kw : w.kernel) {
                       const T* tap = from + kh * s.window.w.kernel + kw;
                       for (index_t c = 0; c < columns; ++c) to[c] = tap[c * s.taps()];
                       for (index_t c = columns; c < lanes; ++c) to[c] = T(0);
                       to += lanes;
                     }
                 }
               });
}

template <class T>
void implicit_transpose(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
  const index_t channels = s.group_channels(), outputs = s.group_outputs();
  const std::vector<Phase> rows = phases_of(s.window.h, s.height);
  const std::vector<Phase> columns = phases_of(s.window.w, s.width);
  // Every tap belongs to one phase, so all phases together hold each weight at most once.
  const index_t size = packed_size(kernels, outputs * s.taps(), channels);
  Scratch<T> panels(checked_product(size, s.groups));
  std::vector<Correlation<T>> jobs;
  for (index_t g = 0; g < s.groups; ++g) {
    T* packed = panels.data() + g * size;
    for (const Phase& h : rows)
      for (const Phase& w : columns) {
        pack_phase(kernels, s, weight + g * outputs * channels * s.taps(), h, w, packed);
        Correlation<T> job{};
        job.source = {y + g * outputs * out, s.oh(), s.ow(), out};
        job.images = s.images;
        job.channels = outputs;
        job.source_image_stride = s.outputs * out;
        job.h = AxisTaps(h.taps);
        job.w = AxisTaps(w.taps);
        job.grid_h = h.count;
        job.grid_w = w.count;
        job.panels = packed;
        job.outputs = channels;
        job.bias = bias != nullptr ? bias + g * channels : nullptr;
        job.target = x + g * channels * in + h.first * s.width + w.first;
        job.target_image_stride = s.channels * in;
        job.target_channel_stride = in;
        job.target_row_stride = s.window.h.stride * s.width;
        job.target_column_stride = s.window.w.stride;
        packed += packed_size(kernels, job.depth(), channels);
        jobs.push_back(std::move(job));
      }
  }
  correlate(jobs);
}

}  // namespace

CNNCORE_KERNEL(conv2d);
template <class T>
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y,
            ConvAlgorithm algorithm) {
  if (algorithm == ConvAlgorithm::im2col)
    column_forward(s, x, weight, bias, y);
  else if (algorithm == ConvAlgorithm::automatic && is_depthwise(s))
    depthwise_forward(s, x, weight, bias, y);
  else
    implicit_forward(s, x, weight, bias, y);
}

CNNCORE_KERNEL(conv_transpose2d);
template <class T>
void conv_transpose2d(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x,
                      ConvAlgorithm algorithm) {
  if (algorithm == ConvAlgorithm::im2col)
    column_transpose(s, y, weight, bias, x);
  else if (algorithm == ConvAlgorithm::automatic && is_depthwise(s))
    depthwise_transpose(s, y, weight, bias, x);
  else
    implicit_transpose(s, y, weight, bias, x);
}

CNNCORE_KERNEL(conv2d_weight);
template <class T>
void conv2d_weight(const ConvShape& s, const T* x, const T* gy, T* gweight,
                   ConvAlgorithm algorithm) {
  if (algorithm == ConvAlgorithm::im2col)
    column_weight(s, x, gy, gweight);
  else if (algorithm == ConvAlgorithm::automatic && is_depthwise(s))
    depthwise_weight(s, x, gy, gweight);
  else
    correlate_weight(s, x, gy, gweight);
}

#define CNNCORE_INSTANTIATE(T)                                                             \
  template void conv2d(const ConvShape&, const T*, const T*, const T*, T*, ConvAlgorithm); \
  template void conv_transpose2d(const ConvShape&, const T*, const T*, const T*, T*,       \
                                 ConvAlgorithm);                                           \
  template void conv2d_weight(const ConvShape&, const T*, const T*, T*, ConvAlgorithm)
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
