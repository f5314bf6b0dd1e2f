// The transforms of cpu/conv/winograd_kernels.h: each is one of winograd_axis.h along the columns,
// then along the rows.
#include <utility>

#include "cpu/conv/winograd_kernels.h"
#include "cpu/isa/simd.h"
#include "cpu/isa/transpose.h"
#include "cpu/isa/winograd_axis.h"
#include "cpu/isa/winograd_filters.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// --- two axes ------------------------------------------------------------------------------------

// Tiles of a row overlap: the columns are transformed once for all tiles that share them, for few
// tiles at a time, so that they stay in the first-level cache.
template <class T, class Rows, class Columns, int n>
void expand(const WinogradRows<T>& rows, T* v, index_t stride, index_t next) {
  using V = typename Simd<T>::vector;
  constexpr int width = Simd<T>::width;
  constexpr index_t some = 8, columns = (some - 1) * Columns::step + Columns::in;
  alignas(kVectorBytes) T columns_done[Rows::out][columns * width];
  for (index_t tile = 0; tile < rows.tiles; tile += some) {
    const index_t tiles = min_of(some, rows.tiles - tile), left = tile * Columns::step;
    for (index_t j = 0; j < (tiles - 1) * Columns::step + Columns::in; ++j) {
      V d[Rows::in], t[Rows::out];
      const bool inside = left + j >= rows.first && left + j < rows.last;
#pragma GCC unroll 6
      for (int i = 0; i < Rows::in; ++i)
        d[i] = inside ? load(rows.row[i] + (left + j - rows.first) * rows.step[i]) : V{};
      Rows::apply(d, t);
#pragma GCC unroll 6
      for (int i = 0; i < Rows::out; ++i) store(columns_done[i] + j * width, t[i]);
    }
    for (index_t k = 0; k < tiles; ++k) {
      for (int i = 0; i < Rows::out; ++i) {
        T* const to = v + (tile + k) * next + i * n * stride;
        V d[Columns::in], t[Columns::out];
#pragma GCC unroll 6
        for (int j = 0; j < Columns::in; ++j)
          d[j] = load(columns_done[i] + (k * Columns::step + j) * width);
        Columns::apply(d, t);
#pragma GCC unroll 6
        for (int j = 0; j < Columns::out; ++j) store(to + j * stride, t[j]);
      }
    }
  }
}

// One tile of products to its square of results: put(i, j, value).
template <class T, class Rows, class Columns, int n, class Put>
CNNCORE_HD void contract(const T* products, index_t stride, Put put) {
  using V = typename Simd<T>::vector;
  V half[Rows::out][Columns::in];
#pragma GCC unroll 6
  for (int j = 0; j < Columns::in; ++j) {
    V p[Rows::in], y[Rows::out];
#pragma GCC unroll 6
    for (int i = 0; i < Rows::in; ++i) p[i] = load(products + (i * n + j) * stride);
    Rows::apply(p, y);
#pragma GCC unroll 4
    for (int i = 0; i < Rows::out; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows::out; ++i) {
    V y[Columns::out];
    Columns::apply(half[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < Columns::out; ++j) put(i, j, y[j]);
  }
}

template <class T, class F>
void output(const T* products, index_t stride, index_t next, index_t tiles, const T* bias, T* out,
            index_t pitch, index_t column) {
  const auto add = load(bias);
  for (index_t tile = tiles - 1; tile >= 0; --tile) {
    T* const to = out + tile * F::outputs * column;
    contract<T, OutputAxis<F>, OutputAxis<F>, F::points>(
        products + tile * next, stride,
        [=](int i, int j, auto y) { store(to + i * pitch + j * column, y + add); });
  }
}

// The results of the four phases are put side by side first, so that the rows of a tile can be
// written in order.
template <class T, class F, int taps, int... phase>
CNNCORE_HD void output_phases(const T* products, index_t stride, index_t next, index_t tiles,
                              const T* bias, T* out, index_t pitch, index_t step,
                              std::integer_sequence<int, phase...>) {
  constexpr int width = Simd<T>::width, m = 2 * F::outputs, points = F::points * F::points;
  const auto add = load(bias);
  for (index_t tile = tiles - 1; tile >= 0; --tile) {
    alignas(kVectorBytes) T block[m * m * width];
    (contract<T, OutputAxis<PhaseRows<F, taps, phase>>, OutputAxis<PhaseColumns<F, taps, phase>>,
              F::points>(products + phase * points * stride + tile * next, stride,
                         [&](int i, int j, auto y) {
                           // filters are turned: tap 0 meets the odd results
                           const int row = 2 * i + 1 - kWinogradPhases[phase].row;
                           const int column = 2 * j + 1 - kWinogradPhases[phase].column;
                           store(block + (row * m + column) * width, y + add);
                         }),
     ...);
    for (int i = 0; i < m; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < m; ++j)
        store(out + i * pitch + (tile * m + j) * step, load(block + (i * m + j) * width));
  }
}

constexpr std::make_integer_sequence<int, 4> kEachPhase{};

template <class T, class F, int taps>
void phase_output(const T* products, index_t stride, index_t next, index_t tiles, const T* bias,
                  T* out, index_t pitch, index_t column) {
  output_phases<T, F, taps>(products, stride, next, tiles, bias, out, pitch, column, kEachPhase);
}

template <class T, class F>
void weight_gradient(const T* products, index_t stride, index_t next, index_t count, T* out) {
  constexpr int width = Simd<T>::width, taps = F::taps;
  for (index_t k = 0; k < count; ++k, products += next, out += taps * taps * width)
    contract<T, WeightAxis<F>, WeightAxis<F>, F::points>(
        products, stride, [=](int i, int j, auto g) { store(out + (i * taps + j) * width, g); });
}

template <class T, class F, int taps, int... phase>
CNNCORE_HD void weight_phases(const T* products, index_t stride, index_t next, index_t count,
                              T* out, std::integer_sequence<int, phase...>) {
  constexpr int width = Simd<T>::width, points = F::points * F::points;
  for (index_t k = 0; k < count; ++k, products += next, out += taps * taps * width)
    (contract<T, WeightAxis<PhaseRows<F, taps, phase>>, WeightAxis<PhaseColumns<F, taps, phase>>,
              F::points>(products + phase * points * stride, stride,
                         [=](int i, int j, auto g) {
                           const int row = 2 * i + kWinogradPhases[phase].row;
                           const int column = 2 * j + kWinogradPhases[phase].column;
                           store(out + (row * taps + column) * width, g);
                         }),
     ...);
}

template <class T, class F, int taps>
void phase_weight_gradient(const T* products, index_t stride, index_t next, index_t count, T* out) {
  weight_phases<T, F, taps>(products, stride, next, count, out, kEachPhase);
}

// --- planes <-> vectors of channels --------------------------------------------------------------

// Pieces of rows are too short for the processor to notice that it should fetch ahead: the next
// run of tiles in the row reads these.
constexpr index_t kAhead = 64;

template <class T>
CNNCORE_HD void gather_square(const T* planes, index_t stride, index_t lanes, T* out) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::vector a[width];
  if (lanes == width) {
#pragma GCC unroll 16
    for (int l = 0; l < width; ++l) {
      __builtin_prefetch(planes + l * stride + kAhead);
      a[l] = load(planes + l * stride);
    }
  } else {
#pragma GCC unroll 16
    for (int l = 0; l < width; ++l)
      a[l] = l < lanes ? load(planes + l * stride) : typename Simd<T>::vector{};
  }
  transpose_square<T>(a);
#pragma GCC unroll 16
  for (int p = 0; p < width; ++p) store(out + p * width, a[p]);
}

// The last square overlaps the one before, which writes the same values twice.
template <class T>
void gather(const T* planes, index_t stride, index_t lanes, index_t pixels, T* out) {
  constexpr index_t width = Simd<T>::width;
  if (pixels < width) {
    for (index_t p = 0; p < pixels; ++p)
      for (index_t l = 0; l < width; ++l)
        out[p * width + l] = l < lanes ? planes[l * stride + p] : T(0);
    return;
  }
  for (index_t p = 0; p < pixels; p += width) {
    const index_t at = min_of(p, pixels - width);
    gather_square(planes + at, stride, lanes, out + at * width);
  }
}

template <class T>
void scatter(const T* in, index_t lanes, index_t pixels, T* planes, index_t stride) {
  constexpr index_t width = Simd<T>::width;
  if (pixels < width) {
    for (index_t l = 0; l < lanes; ++l)
      for (index_t p = 0; p < pixels; ++p) planes[l * stride + p] = in[p * width + l];
    return;
  }
  for (index_t p = 0; p < pixels; p += width) {
    const index_t at = min_of(p, pixels - width);
    typename Simd<T>::vector a[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) a[i] = load(in + (at + i) * width);
    transpose_square<T>(a);
    T* const to = planes + at;
    if (lanes == width) {
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l) store(to + l * stride, a[l]);
    } else {
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l)
        if (l < lanes) store(to + l * stride, a[l]);
    }
  }
}

// --- tables --------------------------------------------------------------------------------------

template <class T, class F, class Filter>
CNNCORE_HD WinogradForm<T> make_common() {
  WinogradForm<T> form{};
  form.outputs = F::outputs;
  form.points = F::points;
  form.input = &expand<T, InputAxis<F>, InputAxis<F>, F::points>;
  form.gradient = &expand<T, GradientAxis<F>, GradientAxis<F>, F::points>;
  form.output = &output<T, F>;
  form.weights = &weights<T, Filter>;
  form.pack = &pack<T, Filter>;
  form.packed_weights = &packed_weights<T, Filter>;
  return form;
}

template <class T, class F>
CNNCORE_HD WinogradForm<T> make_form() {
  WinogradForm<T> form = make_common<T, F, Whole<T, F>>();
  form.taps = F::taps;
  form.phases = 1;
  form.phase_input[0] = form.input;
  form.weight_gradient = &weight_gradient<T, F>;
  return form;
}

template <class T, class F, int taps, int... phase>
CNNCORE_HD WinogradForm<T> make_phases(std::integer_sequence<int, phase...>) {
  WinogradForm<T> form = make_common<T, F, Phases<T, F, taps>>();
  form.taps = taps;
  form.phases = 4;
  ((form.phase_input[phase] = &expand<T, InputAxis<PhaseRows<F, taps, phase>>,
                                      InputAxis<PhaseColumns<F, taps, phase>>, F::points>),
   ...);
  form.phase_output = &phase_output<T, F, taps>;
  form.weight_gradient = &phase_weight_gradient<T, F, taps>;
  return form;
}

template <class T>
CNNCORE_HD WinogradKernels<T> make_table() {
  WinogradKernels<T> table{};
  table.width = Simd<T>::width;
  table.four = make_form<T, F43<T>>();
  table.two = make_form<T, F23<T>>();
  table.phases[0][0] = make_phases<T, F32<T>, 3>(kEachPhase);
  table.phases[0][1] = make_phases<T, F32<T>, 4>(kEachPhase);
  table.phases[1][0] = make_phases<T, F42<T>, 3>(kEachPhase);
  table.phases[1][1] = make_phases<T, F42<T>, 4>(kEachPhase);
  table.gather = &gather<T>;
  table.scatter = &scatter<T>;
  return table;
}

}  // namespace

const WinogradKernels<float>& winograd_kernels_f32() {
  static const WinogradKernels<float> table = make_table<float>();
  return table;
}

const WinogradKernels<double>& winograd_kernels_f64() {
  static const WinogradKernels<double> table = make_table<double>();
  return table;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
