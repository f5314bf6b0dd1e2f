#include "cpu/conv/cost.h"

#include <algorithm>

#include "cpu/conv/joined.h"
#include "cpu/conv/panels.h"
#include "cpu/conv/patch_transpose.h"
#include "cpu/conv/strided_transpose.h"
#include "cpu/conv/wide_transpose.h"
#include "cpu/conv/winograd.h"

namespace cnncore {
namespace {

double of(index_t value) {
  return static_cast<double>(value);
}

// Products of all groups; the channels that lie in vectors are counted with their padding.
double product_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  const index_t vectors =
      ceil_div(direction == ConvDirection::input ? s.group_channels() : s.group_outputs(), width);
  const index_t others = direction == ConvDirection::input ? s.group_outputs() : s.group_channels();
  return of(s.images * s.groups) * of(s.oh() * s.ow() * s.taps()) * of(vectors * others);
}

// Steps of one vector of a transform. Measured on 2 Zen 4 cores with AVX-512, float32; copies to
// and from planes are in them.
struct WinogradSteps {
  double input, output;              // of a tile
  double filter;                     // of a filter
  double gradient, weight_gradient;  // of a tile of gy; of a filter's gradient
};
constexpr WinogradSteps kFour{650, 500, 300, 650, 400};
constexpr WinogradSteps kTwo{260, 180, 180, 250, 250};

// With stride 2: of the pixels, or the results, of all phases; and of one square.
struct PhaseSteps {
  double pixels, results, filter;
  double input, output;
  double gradient, weight_gradient;
};
constexpr PhaseSteps kPhases3{1000, 1000, 350, 260, 300, 300, 600};
constexpr PhaseSteps kPhases4{1700, 1700, 500, 450, 450, 450, 900};

WinogradSteps steps_of(const WinogradProblem& p, index_t stride) {
  if (stride == 1) return p.m == 4 ? kFour : kTwo;
  const PhaseSteps& one = p.m == 4 ? kPhases4 : kPhases3;
  return {p.sources() > 1 ? one.pixels : one.input, p.targets() > 1 ? one.results : one.output,
          one.filter, one.gradient, one.weight_gradient};
}

// Products of a tile, a channel and an output.
double winograd_points(const ConvShape& s, index_t m) {
  if (s.window.h.stride == 1) return of((m + 2) * (m + 2));
  return of(s.window.h.kernel == 3 ? (2 * m + 1) * (2 * m + 1) : 4 * (m + 1) * (m + 1));
}

double winograd_steps(const ConvShape& s, ConvDirection direction, index_t width, index_t m) {
  const WinogradProblem p = winograd_problem(s, direction, m);
  const WinogradSteps one = steps_of(p, s.window.h.stride);
  const bool back = direction == ConvDirection::weight;
  const double tiles = of(p.lattices() * p.grid().count());
  const double channels = of(p.channels), outputs = of(ceil_div(p.outputs, width));
  const double in = tiles * of(ceil_div(p.channels, width)), out = tiles * outputs;
  const double filters = channels * outputs;
  const double group = back ? one.input * in + one.gradient * out + one.weight_gradient * filters
                            : one.input * in + one.output * out + one.filter * filters;
  return of(p.groups) * (winograd_points(s, m) * tiles * filters + group);
}

}  // namespace

// Packing a vector of filters: they come from memory and are read in small pieces.
constexpr double kPack = 20;

// The matrix is written and read again: about 10 steps an element's vector.
double im2col_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  const double columns = of(s.images * s.channels) * of(s.taps() * s.oh() * s.ow());
  return implicit_gemm_steps(s, direction, width) + 10 * columns / of(width);
}

namespace {

// Packing filters, copying pixels, transposing results: the smaller the layer, the more it weighs.
double pixelwise_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  const double filters = of(s.weight_size()) / of(width);
  const double inputs = of(s.input_size()) / of(width), outputs = of(s.output_size()) / of(width);
  const bool back = direction == ConvDirection::input;
  const double pixels = back ? 2 * inputs + outputs : 2 * outputs + inputs;
  // The phases of a transpose are written element by element.
  const double scatter = back && s.window.w.stride > 1 ? 100 * inputs : 0;
  // Tiles of a few single pixels come to another plane, that is to another page, very often.
  const double product = s.taps() == 1 && width < 16 ? 1.25 : 1.05;
  return product * product_steps(s, direction, width) + kPack * filters + 4 * pixels + scatter;
}

}  // namespace

bool implicit_gemm_joins(const ConvShape& s, ConvDirection direction, index_t width) {
  return joined_serves(s, direction) &&
         joined_steps(s, direction, width) < pixelwise_steps(s, direction, width);
}

double implicit_gemm_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  return implicit_gemm_joins(s, direction, width) ? joined_steps(s, direction, width)
                                                  : pixelwise_steps(s, direction, width);
}

// Whole vectors of pixels of a row (of a plane where the kernel is one pixel), and no output
// channel more than there are; a transpose has the rows and the columns of each phase.
double direct_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  if (direction == ConvDirection::weight) return 1.01 * implicit_gemm_steps(s, direction, width);
  if (is_wide_transpose(s, direction, width)) {
    const double places =
        of((s.height / s.window.h.stride + 1) * (s.width / s.window.w.stride + 1));
    return 1.1 * of(s.images * s.outputs * s.group_channels()) * of(s.taps()) * places / of(width);
  }
  if (is_patch_transpose(s, direction)) return patch_transpose_steps(s, width);
  if (is_strided_transpose(s, direction)) {
    const ConvShape small = without_stride(s);
    return std::min(direct_steps(small, direction, width),
                    implicit_gemm_steps(small, direction, width)) +
           strided_transpose_steps(s, width);
  }
  const bool pixelwise = s.taps() == 1 && s.window.h.stride == 1 && s.window.w.stride == 1;
  double row_taps = 0, column_vectors = 0, result_vectors = 0;
  if (direction == ConvDirection::output || pixelwise) {
    row_taps = of(s.oh() * s.window.h.kernel);
    result_vectors = s.taps() == 1 ? of(ceil_div(s.oh() * s.ow(), width)) / of(s.oh())
                                   : of(ceil_div(s.ow(), width));
    column_vectors = of(s.window.w.kernel) * result_vectors;
    result_vectors *=
        of(s.images * s.oh() * (direction == ConvDirection::output ? s.outputs : s.channels));
  } else {
    for (const Phase& h : phases_of(s.window.h, s.height)) row_taps += of(h.count * h.taps.taps());
    const index_t spread = (s.window.w.extent() - 1) / s.window.w.stride;  // zeros between rows
    for (const Phase& w : phases_of(s.window.w, s.width)) {
      // Rows are computed as one where that wastes fewer lanes (direct_plan.cpp).
      const index_t rows = ceil_div(s.height, s.window.h.stride), extent = w.count + spread;
      const bool joined = s.window.w.stride > 1 && extent <= round_up(w.count, width);
      const double vectors = joined ? of(ceil_div((rows - 1) * extent + w.count, width)) / of(rows)
                                    : of(ceil_div(w.count, width));
      column_vectors += vectors * of(w.taps.taps());
      result_vectors += of(ceil_div(w.count, width));
    }
    result_vectors *= of(s.images * s.channels * s.height);
  }
  const double pairs = of(s.images * s.outputs * s.group_channels());
  // Few output channels do not fill the pipes: the latency of a step shows.
  const index_t rows = direction == ConvDirection::output ? s.group_outputs() : s.group_channels();
  const double idle = rows < 5 ? 5.0 / of(max_of(1, rows)) : 1.03;
  // Forwards, and where the kernel is one pixel, filters are transposed or copied whole.
  const double pack = direction == ConvDirection::output || s.taps() == 1 ? 4 : kPack;
  // Strides beyond 2 are copied element by element; with stride 2, kernels of one pixel in vectors
  // that are soon used up.
  const bool strided = direction == ConvDirection::output && s.window.w.stride > 1;
  const double each = s.window.w.stride > 2 ? 3 : s.taps() == 1 ? 20 / of(width) : 0;
  const double copy = strided ? each * of(s.input_size()) : 0;
  const double tiles = result_vectors * of(ceil_div(rows, 14)) / of(max_of(1, rows));
  return idle * pairs * row_taps * column_vectors + 4 * result_vectors + 10 * tiles + copy +
         pack * of(s.weight_size()) / of(width);
}

// Vectors end with the rows; a plane of them takes its time to begin.
double depthwise_steps(const ConvShape& s, ConvDirection, index_t width) {
  const double planes = of(s.images * s.outputs * s.group_channels());
  return planes * (of(s.oh() * ceil_div(s.ow(), width)) * (1.3 * of(s.taps()) + 3) + 50);
}

double winograd_2x2_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  return winograd_steps(s, direction, width, 2);
}

double winograd_phases_3x3_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  return winograd_steps(s, direction, width, 3);
}

double winograd_phases_4x4_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  return winograd_steps(s, direction, width, 4);
}

double winograd_4x4_steps(const ConvShape& s, ConvDirection direction, index_t width) {
  return winograd_steps(s, direction, width, 4);
}

}  // namespace cnncore
