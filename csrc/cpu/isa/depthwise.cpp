// The loops of cpu/conv/depthwise.h for windows of 3x3 and 5x5 with stride 1 and 2.
//
// Arithmetic: a row of 3 taps is 3 multiply-adds a vector of results, so loads decide. Results are
// computed 4 rows at a time: each vector of the source is loaded once for all the rows of
// results that see it, and the weights stay in registers. (With 4 rows of 3x3, 18 loads feed 36
// multiply-adds.) Where the source is read with stride 2, two neighbouring vectors are sorted into
// even and odd columns: tap 0 reads the even ones, tap 1 the odd ones. The transpose with stride 2
// is the same backwards: even and odd columns of the result are summed apart and interleaved.
//
// Borders: rows outside the plane are left out, lanes outside it are masked in loads and stores;
// nothing is copied. Rows of one vector: depthwise_narrow.h. Any other window: depthwise_any.h,
// which is also the plain version.
#include "cpu/conv/depthwise.h"

#include "cpu/isa/depthwise_any.h"
#include "cpu/isa/depthwise_narrow.h"
#include "cpu/isa/depthwise_weights.h"
#include "cpu/isa/lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr index_t kStrip = 32;  // rows of a strip

// What K taps with stride S read of a row for results v .. v + width: lane l of tap j is column
// v * S - before + j + S * l. `kWhole`: all of it lies in the plane.
template <bool kWhole, class T, int K, int S>
class Columns {
 public:
  static constexpr index_t width = Simd<T>::width;

  // Lanes from `count` on are zero.
  CNNCORE_HD Columns(const Window1d& window, index_t v, index_t plane_width, index_t count)
      : first_(v * S - window.before) {
    if constexpr (kWhole) return;
#pragma GCC unroll 5
    for (int j = 0; j < K; j += S) {
      const index_t begin = first_ + j;
      const index_t end = min_of(begin + S * min_of(count, width), plane_width);
#pragma GCC unroll 2
      for (int half = 0; half < S; ++half)
        lanes_[j + half] = Lanes<T>(-begin - half * width, end - begin - half * width);
    }
  }

  CNNCORE_HD void load_row(const T* row, Vector<T> (&taps)[K]) const {
#pragma GCC unroll 5
    for (int j = 0; j < K; j += S) {
      const T* const from = row + first_ + j;
      const Vector<T> a = at(from, j);
      if constexpr (S == 1) {
        taps[j] = a;
      } else {
        const Vector<T> b = at(from + width, j + 1);
        taps[j] = even_lanes(a, b, lane_numbers<T>());
        if (j + 1 < K) taps[j + 1] = odd_lanes(a, b, lane_numbers<T>());
      }
    }
  }

 private:
  CNNCORE_HD Vector<T> at(const T* from, int part) const {
    if constexpr (kWhole) return load(from);
    return load_lanes(from, lanes_[part]);
  }

  index_t first_;
  Lanes<T> lanes_[K + 1];
};

// Whether Columns<true> may be used for `count` results from v on.
template <class T, int K, int S>
CNNCORE_HD bool whole_columns(const Window1d& window, index_t v, index_t plane_width,
                              index_t count) {
  const index_t first = v * S - window.before, width = Simd<T>::width;
  return first >= 0 && first + K - 1 + S * width <= plane_width && count >= width;
}

// Calls strip(whole, v, u, end) for strips of one vector of columns and up to kStrip rows of
// first..last, so that what is known about the columns is worked out once for many rows while the
// rows stay in the first-level cache. `whole`: a type that says whether no lane is masked.
template <class IsWhole, class Strip>
CNNCORE_HD void for_each_strip(index_t first, index_t last, index_t begin, index_t end,
                               index_t width, IsWhole is_whole, Strip strip) {
  for (index_t u = first; u < last; u += kStrip)
    for (index_t v = begin; v < end; v += width) {
      if (is_whole(v))
        strip(std::true_type(), v, u, min_of(last, u + kStrip));
      else
        strip(std::false_type(), v, u, min_of(last, u + kStrip));
    }
}

// --- forward -------------------------------------------------------------------------------------

// R rows of results from u on, columns v .. v + width.
template <int R, bool kWhole, class T, int K, int S>
CNNCORE_HD void forward_block(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                              const Columns<kWhole, T, K, S>& columns, const Lanes<T>& lanes,
                              const T* x, index_t u, T* to) {
  Sums<R, T, K> sums;
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    sums.start(r, p.accumulate ? load_lanes(to + r * p.ow, lanes) : broadcast(p.start()));
  const index_t top = p.window.h.start(u);
#pragma GCC unroll 16
  for (int t = 0; t < (R - 1) * S + K; ++t) {
    if (top + t < 0 || top + t >= p.height) continue;
    Vector<T> taps[K];
    columns.load_row(x + (top + t) * p.width, taps);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * S;
      if (i >= 0 && i < K) sums.add(r, i, weights, taps);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (kWhole)
      store(to + r * p.ow, sums.total(r));
    else
      store_lanes(to + r * p.ow, sums.total(r), lanes);
  }
}

template <class T, int K, int S>
void forward(const DepthwisePlane<T>& p, const T* x, T* y) {
  const Weights<T, K> weights(p.weight);
  for_each_strip(
      p.first, p.last, 0, p.ow, Simd<T>::width,
      [&](index_t v) { return whole_columns<T, K, S>(p.window.w, v, p.width, p.ow - v); },
      [&](auto whole, index_t v, index_t u, index_t end) {
        const Columns<decltype(whole)::value, T, K, S> columns(p.window.w, v, p.width,
                                                               Simd<T>::width);
        const Lanes<T> lanes(0, p.ow - v);
        T* to = y + u * p.ow + v;
        for (; u + 4 <= end; u += 4, to += 4 * p.ow)
          forward_block<4>(p, weights, columns, lanes, x, u, to);
        if (end - u == 3)
          forward_block<3>(p, weights, columns, lanes, x, u, to);
        else if (end - u == 2)
          forward_block<2>(p, weights, columns, lanes, x, u, to);
        else if (end - u == 1)
          forward_block<1>(p, weights, columns, lanes, x, u, to);
      });
}

// --- transpose with stride 2 ---------------------------------------------------------------------
// With r + before = 2 (u0 + t) + i: row u0 + t of y, tap i; likewise along the columns. A block is
// 2 R rows of x from 2 u0 - before on, 2 width columns from 2 v0 - before on; even rows take the
// even taps, even columns likewise.

template <class T, int K>
struct TransposedColumns {
  static constexpr int shifts = (K + 1) / 2;  // taps j and j + 1 (j even) read column v - j / 2

  CNNCORE_HD TransposedColumns(const DepthwisePlane<T>& p, index_t v0)
      : v0(v0),
        column(2 * v0 - p.window.w.before),
        low(-column, p.width - column),
        high(-column - Simd<T>::width, p.width - column - Simd<T>::width) {
#pragma GCC unroll 3
    for (int s = 0; s < shifts; ++s) inside[s] = Lanes<T>(s - v0, p.ow - v0 + s);
  }

  index_t v0, column;  // the first column of y, of x
  Lanes<T> low, high;  // of x
  Lanes<T> inside[shifts];
};

template <int R, bool kWhole, class T, int K>
CNNCORE_HD void transpose_block(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                                const TransposedColumns<T, K>& columns, const T* y, index_t u0,
                                T* x) {
  constexpr int shifts = TransposedColumns<T, K>::shifts;
  Vector<T> sum[2 * R][2];
#pragma GCC unroll 4
  for (int r = 0; r < 2 * R; ++r)
    sum[r][0] = sum[r][1] = broadcast(p.accumulate ? T(0) : p.start());
#pragma GCC unroll 8
  for (int t = 1 - shifts; t < R; ++t) {
    const index_t u = u0 + t;
    if (u < 0 || u >= p.oh) continue;
    Vector<T> in[shifts];
#pragma GCC unroll 3
    for (int s = 0; s < shifts; ++s) {
      const T* const from = y + u * p.ow + columns.v0 - s;
      in[s] = kWhole ? load(from) : load_lanes(from, columns.inside[s]);
    }
#pragma GCC unroll 5
    for (int i = 0; i < K; ++i) {
      const int r = 2 * t + i;
      if (r < 0 || r >= 2 * R) continue;
#pragma GCC unroll 5
      for (int j = 0; j < K; ++j) sum[r][j % 2] += weights.at[i * K + j] * in[j / 2];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 2 * R; ++r) {
    const index_t row = 2 * u0 - p.window.h.before + r;
    if (row < p.first || row >= p.last) continue;
    T* const to = x + row * p.width + columns.column;
    Vector<T> a = interleave_low(sum[r][0], sum[r][1], lane_numbers<T>());
    Vector<T> b = interleave_high(sum[r][0], sum[r][1], lane_numbers<T>());
    if (p.accumulate) {
      a += load_lanes(to, columns.low);
      b += load_lanes(to + Simd<T>::width, columns.high);
    }
    store_lanes(to, a, columns.low);
    store_lanes(to + Simd<T>::width, b, columns.high);
  }
}

template <class T, int K>
void transpose2(const DepthwisePlane<T>& p, const T* y, T* x) {
  constexpr int R = 2;
  const Weights<T, K> weights(p.weight);
  for_each_strip((p.first + p.window.h.before) / 2, ceil_div(p.last + p.window.h.before, 2), 0,
                 ceil_div(p.width + p.window.w.before, 2), Simd<T>::width,
                 [&](index_t v) { return v >= K / 2 && v + Simd<T>::width <= p.ow; },
                 [&](auto whole, index_t v, index_t u, index_t end) {
                   constexpr bool kWhole = decltype(whole)::value;
                   const TransposedColumns<T, K> columns(p, v);
                   for (; u + R <= end; u += R)
                     transpose_block<R, kWhole>(p, weights, columns, y, u, x);
                   if (u < end) transpose_block<1, kWhole>(p, weights, columns, y, u, x);
                 });
}

// --- weight gradient -----------------------------------------------------------------------------

// Kernel rows I .. I + G, R rows of gy from u on: sum[(i - I) K + j] += gy x.
template <int R, int I, int G, bool kWhole, class T, int K, int S>
CNNCORE_HD void weight_block(const DepthwisePlane<T>& p, const Columns<kWhole, T, K, S>& columns,
                             const Lanes<T>& lanes, const T* x, const T* gy, index_t u,
                             Vector<T> (&sum)[G * K]) {
  Vector<T> g[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    g[r] = kWhole ? load(gy + r * p.ow) : load_lanes(gy + r * p.ow, lanes);
  const index_t top = p.window.h.start(u);
#pragma GCC unroll 16
  for (int t = I; t < (R - 1) * S + I + G; ++t) {
    if (top + t < 0 || top + t >= p.height) continue;
    Vector<T> taps[K];
    columns.load_row(x + (top + t) * p.width, taps);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * S - I;
      if (i < 0 || i >= G) continue;
#pragma GCC unroll 5
      for (int j = 0; j < K; ++j) sum[i * K + j] += g[r] * taps[j];
    }
  }
}

// Kernel rows I .. I + G: as many as leave their sums in registers.
template <class T, int K, int S, int I, int G>
CNNCORE_HD void weight_part(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, const T* x,
                            const T* gy, T* gweight) {
  constexpr int R = K == 3 && kVectorRegisters == 32 ? 4 : 2;
  Vector<T> sum[G * K];
#pragma GCC unroll 25
  for (int k = 0; k < G * K; ++k) sum[k] = Vector<T>{};
  for (index_t n = 0; n < all.images; ++n, x += all.x_stride, gy += all.y_stride)
    for_each_strip(
        p.first, p.last, 0, p.ow, Simd<T>::width,
        [&](index_t v) { return whole_columns<T, K, S>(p.window.w, v, p.width, p.ow - v); },
        [&](auto whole, index_t v, index_t u, index_t end) {
          const Columns<decltype(whole)::value, T, K, S> columns(p.window.w, v, p.width, p.ow - v);
          const Lanes<T> lanes(0, p.ow - v);
          const T* from = gy + u * p.ow + v;
          for (; u + R <= end; u += R, from += R * p.ow)
            weight_block<R, I, G>(p, columns, lanes, x, from, u, sum);
          for (; u < end; ++u, from += p.ow)
            weight_block<1, I, G>(p, columns, lanes, x, from, u, sum);
        });
#pragma GCC unroll 25
  for (int k = 0; k < G * K; ++k) {
    T total = 0;
    for (int lane = 0; lane < Simd<T>::width; ++lane) total += sum[k][lane];
    gweight[I * K + k] = total;
  }
}

template <class T, int K, int S>
void weight(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, const T* x, const T* gy,
            T* gweight) {
  if constexpr (K == 3 || kVectorRegisters == 32) {
    weight_part<T, K, S, 0, K>(p, all, x, gy, gweight);
  } else {
    weight_part<T, K, S, 0, 2>(p, all, x, gy, gweight);
    weight_part<T, K, S, 2, 2>(p, all, x, gy, gweight);
    weight_part<T, K, S, 4, 1>(p, all, x, gy, gweight);
  }
}

// --- all of them ---------------------------------------------------------------------------------

// One plane after the other; x and y are the larger and the smaller side.
template <class T, void (*kForward)(const DepthwisePlane<T>&, const T*, T*)>
void forward_each(DepthwisePlane<T> p, index_t planes, const T* x, T* y) {
  for (; planes > 0; --planes, x += p.height * p.width, y += p.oh * p.ow, p.next())
    kForward(p, x, y);
}
template <class T, void (*kTranspose)(const DepthwisePlane<T>&, const T*, T*)>
void transpose_each(DepthwisePlane<T> p, index_t planes, const T* y, T* x) {
  for (; planes > 0; --planes, x += p.height * p.width, y += p.oh * p.ow, p.next())
    kTranspose(p, y, x);
}
template <class T,
          void (*kWeight)(const DepthwisePlane<T>&, const DepthwiseSum<T>&, const T*, const T*, T*)>
void weight_each(const DepthwisePlane<T>& p, const DepthwiseSum<T>& sum, index_t planes, const T* x,
                 const T* gy, T* gweight) {
  const index_t taps = p.window.h.kernel * p.window.w.kernel;
  for (; planes > 0; --planes, x += p.height * p.width, gy += p.oh * p.ow, gweight += taps)
    kWeight(p, sum, x, gy, gweight);
}

template <class T, int K, int S>
DepthwiseKernels<T> kernels([[maybe_unused]] const DepthwisePlane<T>& p) {
  // A transpose with stride 1 is a forward with the taps reversed (depthwise.cpp does that).
  DepthwiseKernels<T> chosen{
      &forward_each<T, &forward<T, K, S>>,
      S == 2 ? &transpose_each<T, &transpose2<T, K>> : &transpose_each<T, &transpose_any<T>>,
      &weight_each<T, &weight<T, K, S>>};
#if defined(__AVX512F__)
  if (NarrowRows<T, K, S, 1>::serves(p)) chosen.forward = &forward_narrow<T, K, S, 1>;
  if (NarrowRows<T, K, S, 2>::serves(p)) chosen.forward = &forward_narrow<T, K, S, 2>;
#endif
  return chosen;
}

bool square(const Window2d& window, index_t kernel, index_t stride) {
  return window.h.kernel == kernel && window.w.kernel == kernel && window.h.stride == stride &&
         window.w.stride == stride && window.h.dilation == 1 && window.w.dilation == 1;
}

}  // namespace

template <class T>
DepthwiseKernels<T> depthwise_kernels(const DepthwisePlane<T>& p) {
  if (square(p.window, 3, 1)) return kernels<T, 3, 1>(p);
  if (square(p.window, 3, 2)) return kernels<T, 3, 2>(p);
  if (square(p.window, 5, 1)) return kernels<T, 5, 1>(p);
  if (square(p.window, 5, 2)) return kernels<T, 5, 2>(p);
  return {&forward_each<T, &forward_any<T>>, &transpose_each<T, &transpose_any<T>>,
          &weight_each<T, &weight_any<T>>};
}

template DepthwiseKernels<float> depthwise_kernels(const DepthwisePlane<float>&);
template DepthwiseKernels<double> depthwise_kernels(const DepthwisePlane<double>&);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
