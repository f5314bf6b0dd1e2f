#include "cpu/conv/panels.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/gemm.h"

namespace cnncore {
namespace {

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
                   // Filters in the order in which they lie in memory.
                   const index_t o = i / panel_count, p = i % panel_count;
                   const index_t lanes = kernels.lanes(p, channels);
                   const index_t columns = min_of(lanes, channels - p * width);
                   T* to = panels + p * width * depth + o * taps * lanes;
                   const T* const from = weight + (o * channels + p * width) * s.taps();
                   for (index_t kh : h.kernel)
                     for (index_t kw : w.kernel) {
                       const T* tap = from + kh * s.window.w.kernel + kw;
                       if (s.taps() == 1)
                         std::copy_n(tap, columns, to);
                       else
                         for (index_t c = 0; c < columns; ++c) to[c] = tap[c * s.taps()];
                       for (index_t c = columns; c < lanes; ++c) to[c] = T(0);
                       to += lanes;
                     }
                 }
               });
}

}  // namespace

AxisTaps forward_taps(const Window1d& window) {
  AxisTaps taps;
  taps.step = window.stride;
  for (index_t k = 0; k < window.kernel; ++k) taps.shift.push_back(window.input(0, k));
  return taps;
}

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

#define CNNCORE_INSTANTIATE(T)                                 \
  template index_t forward_panels_size<T>(const ConvShape&);   \
  template void pack_forward(const ConvShape&, const T*, T*);  \
  template index_t transpose_group_size<T>(const ConvShape&);  \
  template index_t transpose_panels_size<T>(const ConvShape&); \
  template void pack_transpose(const ConvShape&, const T*, T*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
