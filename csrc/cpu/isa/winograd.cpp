// The transforms of cpu/conv/winograd_kernels.h.
//
// Each two-dimensional transform is a one-dimensional one along the columns, then along the rows.
// Toom and Cook: two polynomials of m and r coefficients are multiplied by multiplying their values
// at n = m + r - 1 points (one of them may be infinity: the leading coefficient). With points p_j,
//   A[j][i] = p_j^i,  G[j][k] = p_j^k / N_j,  N_j = product over l != j of (p_j - p_l),
//   row j of Bᵀ: the coefficients of the product over l != j of (x - p_l),
// and for infinity the last unit vectors and the product over all l. Where 1 / N_j costs additional
// operations in G, it stands in A instead: the products between them do not mind.
#include "cpu/conv/winograd_kernels.h"
#include "cpu/isa/simd.h"
#include "cpu/isa/transpose.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// --- one axis ------------------------------------------------------------------------------------

// F(4, 3) with points 0, ±√½, ±√2, ∞. The product of the squares is 1, so all entries stay near 1:
// rounding errors are 1.4 times smaller along each axis than with the usual 0, ±1, ±2, ∞
// (docs/accuracy.md), for the same operations.
template <class T>
struct Four {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 4, taps = 3, points = 6;
  static constexpr T a = T(0.70710678118654752440), b = T(1.41421356237309504880);
  static constexpr T na = T(-2.0 / 3), nb = T(1.0 / 6);  // 1 / N of the points ±a, ±b

  static CNNCORE_HD void input(const V* d, V* t) {
    const V odd_a = d[3] - T(2) * d[1], even_a = d[4] - T(2) * d[2];
    const V odd_b = d[3] - T(0.5) * d[1], even_b = d[4] - T(0.5) * d[2];
    t[0] = (d[0] + d[4]) - T(2.5) * d[2];
    t[1] = even_a + a * odd_a;
    t[2] = even_a - a * odd_a;
    t[3] = even_b + b * odd_b;
    t[4] = even_b - b * odd_b;
    t[5] = (d[1] + d[5]) - T(2.5) * d[3];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    const V even_a = p[1] + p[2], odd_a = p[1] - p[2], even_b = p[3] + p[4], odd_b = p[3] - p[4];
    y[0] = (p[0] + na * even_a) + nb * even_b;
    y[1] = (na * a) * odd_a + (nb * b) * odd_b;
    y[2] = (na / 2) * even_a + (nb * 2) * even_b;
    y[3] = (p[5] + (na / 2 * a) * odd_a) + (nb * 2 * b) * odd_b;
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    const V even_a = g[0] + T(0.5) * g[2], even_b = g[0] + T(2) * g[2];
    u[0] = g[0];
    u[1] = even_a + a * g[1];
    u[2] = even_a - a * g[1];
    u[3] = even_b + b * g[1];
    u[4] = even_b - b * g[1];
    u[5] = g[2];
  }
  // The transposes of output and weight, with 1 / N in the latter.
  static CNNCORE_HD void gradient(const V* y, V* t) {
    const V even_a = y[0] + T(0.5) * y[2], odd_a = y[1] + T(0.5) * y[3];
    const V even_b = y[0] + T(2) * y[2], odd_b = y[1] + T(2) * y[3];
    t[0] = y[0];
    t[1] = even_a + a * odd_a;
    t[2] = even_a - a * odd_a;
    t[3] = even_b + b * odd_b;
    t[4] = even_b - b * odd_b;
    t[5] = y[3];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    const V even_a = p[1] + p[2], even_b = p[3] + p[4];
    g[0] = (p[0] + na * even_a) + nb * even_b;
    g[1] = (na * a) * (p[1] - p[2]) + (nb * b) * (p[3] - p[4]);
    g[2] = (p[5] + (na / 2) * even_a) + (nb * 2) * even_b;
  }
};

// F(2, 3) with points 0, ±1, ∞.
template <class T>
struct Two {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 2, taps = 3, points = 4;

  static CNNCORE_HD void input(const V* d, V* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    y[0] = p[0] + T(0.5) * (p[1] + p[2]);
    y[1] = p[3] + T(0.5) * (p[1] - p[2]);
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    const V even = g[0] + g[2];
    u[0] = g[0];
    u[1] = even + g[1];
    u[2] = even - g[1];
    u[3] = g[2];
  }
  static CNNCORE_HD void gradient(const V* y, V* t) {
    t[0] = y[0];
    t[1] = y[0] + y[1];
    t[2] = y[0] - y[1];
    t[3] = y[1];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    const V even = T(0.5) * (p[1] + p[2]);
    g[0] = p[0] + even;
    g[1] = T(0.5) * (p[1] - p[2]);
    g[2] = even + p[3];
  }
};

// F(3, 2), points as in Two: its tiles are of four pixels, too.
template <class T>
struct Three {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 3, taps = 2, points = 4;

  static CNNCORE_HD void input(const V* d, V* t) { Two<T>::input(d, t); }
  static CNNCORE_HD void output(const V* p, V* y) {
    const V even = T(0.5) * (p[1] + p[2]);
    y[0] = p[0] + even;
    y[1] = T(0.5) * (p[1] - p[2]);
    y[2] = even + p[3];
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    u[0] = g[0];
    u[1] = g[0] + g[1];
    u[2] = g[0] - g[1];
    u[3] = g[1];
  }
};

template <class F>
struct InputAxis {
  using V = typename F::V;
  static constexpr int in = F::points, out = F::points, step = F::outputs;
  static CNNCORE_HD void apply(const V* d, V* t) { F::input(d, t); }
};

template <class F>
struct GradientAxis {
  using V = typename F::V;
  static constexpr int in = F::outputs, out = F::points, step = F::outputs;
  static CNNCORE_HD void apply(const V* y, V* t) { F::gradient(y, t); }
};

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

// One tile: result (i, j) goes to out[i * row + j * column].
template <class T, class F>
CNNCORE_HD void output_tile(const T* products, index_t stride, typename Simd<T>::vector add, T* out,
                            index_t row, index_t column) {
  using V = typename Simd<T>::vector;
  constexpr int n = F::points, m = F::outputs;
  V half[m][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    V p[n], y[m];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) p[i] = load(products + (i * n + j) * stride);
    F::output(p, y);
#pragma GCC unroll 4
    for (int i = 0; i < m; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < m; ++i) {
    V y[m];
    F::output(half[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < m; ++j) store(out + i * row + j * column, y[j] + add);
  }
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
  using V = typename Simd<T>::vector;
  constexpr int width = Simd<T>::width, n = F::points, r = F::taps;
  for (index_t k = 0; k < count; ++k, products += next) {
    V half[r][n];
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
      V p[n], g[r];
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) p[i] = load(products + (i * n + j) * stride);
      F::weight_gradient(p, g);
#pragma GCC unroll 3
      for (int i = 0; i < r; ++i) half[i][j] = g[i];
    }
#pragma GCC unroll 3
    for (int i = 0; i < r; ++i) {
      V g[r];
      F::weight_gradient(half[i], g);
#pragma GCC unroll 3
      for (int j = 0; j < r; ++j, out += width) store(out, g[j]);
    }
  }
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
