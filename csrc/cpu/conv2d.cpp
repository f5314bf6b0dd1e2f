#include "cpu/conv2d.h"

#include <algorithm>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/correlate.h"
#include "cpu/depthwise.h"
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
// Weights are packed first: once for all in a PreparedConvolution, else in every call.

// Where a job writes: `offset` elements into the result, and into the residual.
template <class T>
void set_target(Correlation<T>& job, const Finish<T>& finish, T* result, index_t offset) {
  job.target = result + offset;
  job.finish = finish;
  if (finish.residual != nullptr) job.finish.residual = finish.residual + offset;
}

template <class T>
index_t forward_panels_size(const ConvShape& s) {
  const index_t depth = s.group_channels() * s.taps();
  return checked_product(packed_size(tile_kernels<T>(), depth, s.group_outputs()), s.groups);
}

template <class T>
void pack_forward(const ConvShape& s, const T* weight, T* panels) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t depth = s.group_channels() * s.taps(), outputs = s.group_outputs();
  for (index_t g = 0; g < s.groups; ++g)
    pack_panels(kernels, transposed(row_major(weight + g * outputs * depth, outputs, depth)),
                panels + g * packed_size(kernels, depth, outputs));
}

template <class T>
void implicit_forward(const ConvShape& s, const T* x, const T* panels, const T* bias,
                      const Finish<T>& finish, T* y) {
  const index_t outputs = s.group_outputs();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
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
    job.source = {x + g * s.group_channels() * in, s.height, s.width, in};
    job.panels = panels + g * (forward_panels_size<T>(s) / s.groups);
    job.bias = bias != nullptr ? bias + g * outputs : nullptr;
    set_target(job, finish, y, g * outputs * out);
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

// Every tap belongs to one phase, so all phases together hold each weight at most once.
template <class T>
index_t transpose_group_size(const ConvShape& s) {
  return packed_size(tile_kernels<T>(), s.group_outputs() * s.taps(), s.group_channels());
}

template <class T>
index_t transpose_panels_size(const ConvShape& s) {
  return checked_product(transpose_group_size<T>(s), s.groups);
}

template <class T>
void pack_transpose(const ConvShape& s, const T* weight, T* panels) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t channels = s.group_channels(), outputs = s.group_outputs();
  for (index_t g = 0; g < s.groups; ++g) {
    T* packed = panels + g * transpose_group_size<T>(s);
    for (const Phase& h : phases_of(s.window.h, s.height))
      for (const Phase& w : phases_of(s.window.w, s.width)) {
        pack_phase(kernels, s, weight + g * outputs * channels * s.taps(), h, w, packed);
        packed += packed_size(kernels, outputs * h.taps.taps() * w.taps.taps(), channels);
      }
  }
}

template <class T>
void implicit_transpose(const ConvShape& s, const T* y, const T* panels, const T* bias,
                        const Finish<T>& finish, T* x) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
  const index_t channels = s.group_channels(), outputs = s.group_outputs();
  const std::vector<Phase> rows = phases_of(s.window.h, s.height);
  const std::vector<Phase> columns = phases_of(s.window.w, s.width);
  std::vector<Correlation<T>> jobs;
  for (index_t g = 0; g < s.groups; ++g) {
    const T* packed = panels + g * transpose_group_size<T>(s);
    for (const Phase& h : rows)
      for (const Phase& w : columns) {
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
        set_target(job, finish, x, g * channels * in + h.first * s.width + w.first);
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
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, const Finish<T>& finish,
            T* y, ConvAlgorithm algorithm) {
  if (algorithm == ConvAlgorithm::im2col) {
    column_forward(s, x, weight, bias, y);
    finish_all(finish, y, s.images * s.outputs * s.oh() * s.ow());
  } else if (algorithm == ConvAlgorithm::automatic && is_depthwise(s)) {
    depthwise(s, x, weight, bias, finish, y);
  } else {
    Scratch<T> panels(forward_panels_size<T>(s));
    pack_forward(s, weight, panels.data());
    implicit_forward<T>(s, x, panels.data(), bias, finish, y);
  }
}

CNNCORE_KERNEL(conv_transpose2d);
template <class T>
void conv_transpose2d(const ConvShape& s, const T* y, const T* weight, const T* bias,
                      const Finish<T>& finish, T* x, ConvAlgorithm algorithm) {
  const bool direct = algorithm == ConvAlgorithm::automatic && is_depthwise(s);
  if (direct || algorithm == ConvAlgorithm::im2col) {
    (direct ? depthwise_transpose<T> : column_transpose<T>)(s, y, weight, bias, x);
    finish_all(finish, x, s.images * s.channels * s.height * s.width);
  } else {
    Scratch<T> panels(transpose_panels_size<T>(s));
    pack_transpose(s, weight, panels.data());
    implicit_transpose<T>(s, y, panels.data(), bias, finish, x);
  }
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

template <class T>
PreparedConvolution<T>::PreparedConvolution(const ConvShape& shape, Direction direction,
                                            const T* weight, const T* bias)
    : s_(shape), transposed_(direction == Direction::transposed), direct_(is_depthwise(shape)) {
  const index_t weights = s_.outputs * s_.group_channels() * s_.taps();
  if (bias != nullptr) bias_.assign(bias, bias + (transposed_ ? s_.channels : s_.outputs));
  if (direct_) {
    packed_.reset(new Scratch<T>(weights));
    std::copy_n(weight, weights, packed_->data());
  } else {
    packed_.reset(
        new Scratch<T>(transposed_ ? transpose_panels_size<T>(s_) : forward_panels_size<T>(s_)));
    (transposed_ ? pack_transpose<T> : pack_forward<T>)(s_, weight, packed_->data());
  }
}

template <class T>
void PreparedConvolution<T>::run(const T* from, const Finish<T>& finish, T* to) const {
  const T* const bias = bias_.empty() ? nullptr : bias_.data();
  if (!direct_) {
    (transposed_ ? implicit_transpose<T> : implicit_forward<T>)(s_, from, packed_->data(), bias,
                                                                finish, to);
  } else if (transposed_) {
    depthwise_transpose<T>(s_, from, packed_->data(), bias, to);
    finish_all(finish, to, s_.images * s_.channels * s_.height * s_.width);
  } else {
    depthwise<T>(s_, from, packed_->data(), bias, finish, to);
  }
}

template class PreparedConvolution<float>;
template class PreparedConvolution<double>;

#define CNNCORE_INSTANTIATE(T)                                                                     \
  template void conv2d(const ConvShape&, const T*, const T*, const T*, const Finish<T>&, T*,       \
                       ConvAlgorithm);                                                             \
  template void conv_transpose2d(const ConvShape&, const T*, const T*, const T*, const Finish<T>&, \
                                 T*, ConvAlgorithm);                                               \
  template void conv2d_weight(const ConvShape&, const T*, const T*, T*, ConvAlgorithm)
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
