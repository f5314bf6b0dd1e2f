// The transforms of cpu/conv/winograd_kernels.h: each is one of winograd_axis.h along the columns,
// then along the rows.
#include "cpu/conv/winograd_kernels.h"
#include "cpu/isa/simd.h"
#include "cpu/isa/transpose.h"
#include "cpu/isa/winograd_axis.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// --- two axes ------------------------------------------------------------------------------------

// Tiles of a row overlap: the columns are transformed once for all tiles that share them, for few
// tiles at a time, so that they stay in the first-level cache.
template <class T, class Axis>
void expand(const WinogradRows<T>& rows, T* v, index_t stride, index_t next) {
  using V = typename Simd<T>::vector;
  constexpr int width = Simd<T>::width;
  constexpr index_t some = 8, columns = (some - 1) * Axis::step + Axis::in;
  alignas(kVectorBytes) T columns_done[Axis::out][columns * width];
  for (index_t tile = 0; tile < rows.tiles; tile += some) {
    const index_t tiles = min_of(some, rows.tiles - tile), left = tile * Axis::step;
    for (index_t j = 0; j < (tiles - 1) * Axis::step + Axis::in; ++j) {
      V d[Axis::in], t[Axis::out];
      const bool inside = left + j >= rows.first && left + j < rows.last;
#pragma GCC unroll 6
      for (int i = 0; i < Axis::in; ++i)
        d[i] = inside ? load(rows.row[i] + (left + j - rows.first) * rows.step[i]) : V{};
      Axis::apply(d, t);
#pragma GCC unroll 6
      for (int i = 0; i < Axis::out; ++i) store(columns_done[i] + j * width, t[i]);
    }
    for (index_t k = 0; k < tiles; ++k) {
      T* to = v + (tile + k) * next;
      for (int i = 0; i < Axis::out; ++i) {
        V d[Axis::in], t[Axis::out];
#pragma GCC unroll 6
        for (int j = 0; j < Axis::in; ++j)
          d[j] = load(columns_done[i] + (k * Axis::step + j) * width);
        Axis::apply(d, t);
#pragma GCC unroll 6
        for (int j = 0; j < Axis::out; ++j, to += stride) store(to, t[j]);
      }
    }
  }
}

// One tile of products to its square of results: put(i, j, value).
template <class T, class Axis, class Put>
CNNCORE_HD void contract(const T* products, index_t stride, Put put) {
  using V = typename Axis::V;
  constexpr int n = Axis::in, m = Axis::out;
  V half[m][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    V p[n], y[m];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) p[i] = load(products + (i * n + j) * stride);
    Axis::apply(p, y);
#pragma GCC unroll 4
    for (int i = 0; i < m; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < m; ++i) {
    V y[m];
    Axis::apply(half[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < m; ++j) put(i, j, y[j]);
  }
}

// Result (i, j), the bias added, goes to out[i * row + j * column].
template <class T, class F>
CNNCORE_HD void output_tile(const T* products, index_t stride, typename Simd<T>::vector add, T* out,
                            index_t row, index_t column) {
  contract<T, OutputAxis<F>>(
      products, stride, [=](int i, int j, auto y) { store(out + i * row + j * column, y + add); });
}

template <class T, class F>
void output(const T* products, index_t stride, index_t next, index_t tiles, const T* bias, T* out,
            index_t pitch) {
  constexpr int width = Simd<T>::width;
  const auto add = load(bias);
  for (index_t tile = tiles - 1; tile >= 0; --tile)
    output_tile<T, F>(products + tile * next, stride, add, out + tile * F::outputs * width, pitch,
                      width);
}

// The results of the four phases are put side by side first, so that the rows of a tile can be
// written in order.
template <class T, class F>
void output_phases(const T* products, index_t stride, index_t next, index_t tiles, const T* bias,
                   T* out, index_t pitch) {
  constexpr int width = Simd<T>::width, m = 2 * F::outputs, points = F::points * F::points;
  const auto add = load(bias);
  for (index_t tile = tiles - 1; tile >= 0; --tile) {
    alignas(kVectorBytes) T block[m * m * width];
    for (int phase = 0; phase < 4; ++phase)
      output_tile<T, F>(products + phase * points * stride + tile * next, stride, add,
                        block + (phase / 2 * m + phase % 2) * width, 2 * m * width, 2 * width);
    for (int i = 0; i < m; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < m; ++j)
        store(out + i * pitch + (tile * m + j) * width, load(block + (i * m + j) * width));
  }
}

template <class F, class V, class T>
CNNCORE_HD void transform_filter(const V* g, T* u, index_t stride) {
  constexpr int n = F::points, r = F::taps;
  V half[n][r];
#pragma GCC unroll 3
  for (int j = 0; j < r; ++j) {
    V column[r], t[n];
#pragma GCC unroll 3
    for (int i = 0; i < r; ++i) column[i] = g[i * r + j];
    F::weight(column, t);
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) half[i][j] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < n; ++i) {
    V t[n];
    F::weight(half[i], t);
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) store(u + (i * n + j) * stride, t[j]);
  }
}

// The taps of one depth as vectors over the lanes. A filter's taps lie side by side: whole squares
// are read along them and transposed. Where a vector is longer than a filter, what follows the
// filter is read too and dropped, unless that would pass the end of the array.
template <class T, int taps>
CNNCORE_HD void read_filters(const WinogradFilters<T>& filters, index_t k,
                             typename Simd<T>::vector* g) {
  using V = typename Simd<T>::vector;
  constexpr int width = Simd<T>::width;
  const T* const from = filters.data + k * filters.depth;
  constexpr int whole = width > taps ? 1 : taps / width, read = width > taps ? taps : width;
#pragma GCC unroll 4
  for (int square = 0; square < whole; ++square) {
    V a[width];
#pragma GCC unroll 16
    for (int l = 0; l < width; ++l) {
      const T* const p = from + l * filters.lane + square * width;
      if (l >= filters.lanes) {
        a[l] = V{};
      } else if (width > taps && p + width > filters.end) {
        alignas(kVectorBytes) T last[width] = {};
        for (int t = 0; t < taps; ++t) last[t] = p[t];
        a[l] = load(last);
      } else {
        a[l] = load(p);
      }
    }
    transpose_square<T>(a);
#pragma GCC unroll 16
    for (int t = 0; t < read; ++t) g[square * width + t] = a[t];
  }
#pragma GCC unroll 8
  for (int t = whole * width; t < taps; ++t) {
    alignas(kVectorBytes) T lanes[width] = {};
    for (int l = 0; l < filters.lanes; ++l) lanes[l] = from[l * filters.lane + t];
    g[t] = load(lanes);
  }
  if (filters.flip) {
#pragma GCC unroll 8
    for (int t = 0; t < taps / 2; ++t) {
      const V other = g[t];
      g[t] = g[taps - 1 - t];
      g[taps - 1 - t] = other;
    }
  }
}

// How a form transforms the taps of one filter.
template <class T, class F>
struct Whole {
  static constexpr int taps = F::taps * F::taps;
  static CNNCORE_HD void transform(const typename Simd<T>::vector* g, T* u, index_t stride) {
    transform_filter<F>(g, u, stride);
  }
};

// Result 2 t + b of a transpose with stride 2 (counted from the padding's edge) is
// g[b] y[t] + g[b + 2] y[t - 1]: two taps on the pixels t - 1, t for either parity b.
template <class T, class F>
struct Phases {
  static constexpr int taps = 16;
  static CNNCORE_HD void transform(const typename Simd<T>::vector* g, T* u, index_t stride) {
#pragma GCC unroll 4
    for (int phase = 0; phase < 4; ++phase) {
      const int row = phase / 2, column = phase % 2;
      typename Simd<T>::vector part[4];
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) part[t] = g[(row + 2 - t / 2 * 2) * 4 + column + 2 - t % 2 * 2];
      transform_filter<F>(part, u + phase * F::points * F::points * stride, stride);
    }
  }
};

template <class T, class Filter>
void weights(const WinogradFilters<T>& filters, index_t count, T* u, index_t stride, index_t next) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
    read_filters<T, taps>(filters, k, g);
    Filter::transform(g, u + k * next, stride);
  }
}

template <class T, class Filter>
void pack(const WinogradFilters<T>& filters, index_t count, T* packed, index_t next) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
    read_filters<T, taps>(filters, k, g);
    for (int t = 0; t < taps; ++t) store(packed + k * next + t * Simd<T>::width, g[t]);
  }
}

template <class T, class Filter>
void packed_weights(const T* packed, index_t packed_next, index_t count, T* u, index_t stride,
                    index_t next) {
  constexpr int taps = Filter::taps;
  for (index_t k = 0; k < count; ++k) {
    typename Simd<T>::vector g[taps];
#pragma GCC unroll 16
    for (int t = 0; t < taps; ++t) g[t] = load(packed + k * packed_next + t * Simd<T>::width);
    Filter::transform(g, u + k * next, stride);
  }
}

template <class T, class F>
void weight_gradient(const T* products, index_t stride, index_t next, index_t count, T* out) {
  constexpr int width = Simd<T>::width, taps = F::taps;
  for (index_t k = 0; k < count; ++k, products += next, out += taps * taps * width)
    contract<T, WeightAxis<F>>(
        products, stride, [=](int i, int j, auto g) { store(out + (i * taps + j) * width, g); });
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
  form.points = F::points;
  form.step = F::outputs;
  form.input = &expand<T, InputAxis<F>>;
  form.weights = &weights<T, Filter>;
  form.pack = &pack<T, Filter>;
  form.packed_weights = &packed_weights<T, Filter>;
  return form;
}

template <class T, class F>
CNNCORE_HD WinogradForm<T> make_form() {
  WinogradForm<T> form = make_common<T, F, Whole<T, F>>();
  form.outputs = F::outputs;
  form.taps = F::taps;
  form.products = F::points * F::points;
  form.gradient = &expand<T, GradientAxis<F>>;
  form.output = &output<T, F>;
  form.weight_gradient = &weight_gradient<T, F>;
  return form;
}

template <class T, class F>
CNNCORE_HD WinogradForm<T> make_phases() {
  WinogradForm<T> form = make_common<T, F, Phases<T, F>>();
  form.outputs = 2 * F::outputs;
  form.taps = 4;
  form.products = 4 * F::points * F::points;
  form.output = &output_phases<T, F>;
  return form;
}

template <class T>
CNNCORE_HD WinogradKernels<T> make_table() {
  WinogradKernels<T> table{};
  table.width = Simd<T>::width;
  table.four = make_form<T, Four<T>>();
  table.two = make_form<T, Two<T>>();
  table.phases = make_phases<T, Three<T>>();
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
