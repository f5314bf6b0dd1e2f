// The loops of cpu/conv/depthwise.h for windows of 3x3 and 5x5 with stride 1 and 2, and of 7x7 with
// stride 1.
//
// Arithmetic: a row of 3 taps is 3 multiply-adds a vector of results, so loads decide. Results are
// computed 4 rows at a time: each vector of the source is loaded once for all the rows of results
// that see it, and the weights stay in registers. (With 4 rows of 3x3, 18 loads feed 36
// multiply-adds.) Where the source is read with stride 2, two neighbouring vectors are sorted into
// even and odd columns: tap 0 reads the even ones, tap 1 the odd ones, tap 2 the even ones of two
// vectors that begin two columns later. The transpose with stride 2 is the same backwards
// (depthwise_transpose.h).
//
// Order: 4 rows from left to right, then the next 4, so that a plane is read and written as it lies
// in memory. (A strip of one vector and many rows would need less to be known at a time, but no
// processor fetches ahead of it: planes of 112x112 then took 1.4 times as long.)
//
// Borders: lanes outside the plane are masked in loads and stores, rows outside it left out;
// nothing is copied. Rows of one vector: depthwise_narrow.h. Any other window: depthwise_any.h,
// which is also the plain version.
#include "cpu/conv/depthwise.h"

#include "cpu/isa/depthwise_any.h"
#include "cpu/isa/depthwise_narrow.h"
#include "cpu/isa/depthwise_transpose.h"
#include "cpu/isa/depthwise_weights.h"
#include "cpu/isa/lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// What K taps with stride S read of a row for results v .. v + width: lane l of tap j is column
// v * S - before + j + S * l, zero outside the plane.
template <class T, int K, int S>
class Columns {
 public:
  static constexpr index_t width = Simd<T>::width;
  // With stride 2: two vectors for every two taps.
  static constexpr int loads = S == 1 ? K : K + 1;

  Columns() {}
  CNNCORE_HD Columns(const DepthwisePlane<T>& p, index_t v)
      : v(v), results(0, p.ow - v), first_(v * S - p.window.w.before) {
    const index_t last = first_ + at(loads - 1) + width;
    whole = first_ >= 0 && last <= p.width && v + width <= p.ow;
#pragma GCC unroll 7
    for (int k = 0; k < loads; ++k) lanes_[k] = Lanes<T>(-first_ - at(k), p.width - first_ - at(k));
  }

  // kWhole: no lane lies outside. With stride 2, lanes are as even_apart() leaves them.
  template <bool kWhole>
  CNNCORE_HD void load_row(const T* row, Vector<T> (&taps)[K]) const {
    if constexpr (S == 1) {
#pragma GCC unroll 7
      for (int j = 0; j < K; ++j) taps[j] = load_part<kWhole>(row, j);
    } else {
#pragma GCC unroll 3
      for (int j = 0; j < K; j += 2) {
        const Vector<T> a = load_part<kWhole>(row, j), b = load_part<kWhole>(row, j + 1);
        taps[j] = even_apart(a, b, lane_numbers<T>());
        if (j + 1 < K) taps[j + 1] = odd_apart(a, b, lane_numbers<T>());
      }
    }
  }

  // From the order of the taps to that of the results, and back.
  static CNNCORE_HD Vector<T> ordered(Vector<T> lanes) {
    if constexpr (S == 1) return lanes;
    return in_order(lanes, lane_numbers<T>());
  }

  index_t v;
  Lanes<T> results;  // those of the vector that there are
  bool whole;

 private:
  static CNNCORE_HD index_t at(int k) { return S == 1 ? k : k / 2 * 2 + k % 2 * width; }
  template <bool kWhole>
  CNNCORE_HD Vector<T> load_part(const T* row, int k) const {
    const T* const from = row + first_ + at(k);
    if constexpr (kWhole) return load(from);
    return load_lanes(from, lanes_[k]);
  }

  index_t first_;
  Lanes<T> lanes_[loads];
};

// Up to kVectors vectors of results side by side. What is known about their columns is worked out
// once for all rows, which are then walked through as they lie in memory.
template <class T, int K, int S>
struct Stripe {
  static constexpr index_t kVectors = 8;
  static constexpr index_t width = kVectors * Simd<T>::width;

  CNNCORE_HD Stripe(const DepthwisePlane<T>& p, index_t begin) : count(0) {
    for (index_t v = begin; v < min_of(p.ow, begin + width); v += Simd<T>::width)
      columns[count++] = Columns<T, K, S>(p, v);
  }

  Columns<T, K, S> columns[kVectors];
  index_t count;
};

// --- forward -------------------------------------------------------------------------------------

// R rows of results from u on, one vector of each. kInside: all they read are rows of the plane.
template <int R, bool kInside, bool kWhole, class T, int K, int S>
CNNCORE_HD void forward_block(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                              const Columns<T, K, S>& columns, const T* x, index_t u, T* y) {
  T* const to = y + u * p.ow + columns.v;
  Vector<T> sum[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    sum[r] = p.accumulate ? columns.ordered(load_lanes(to + r * p.ow, columns.results))
                          : broadcast(p.start());
  const index_t top = p.window.h.start(u);
#pragma GCC unroll 16
  for (int t = 0; t < (R - 1) * S + K; ++t) {
    if (!kInside && (top + t < 0 || top + t >= p.height)) continue;
    Vector<T> taps[K];
    columns.template load_row<kWhole>(x + (top + t) * p.width, taps);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * S;
      if (i < 0 || i >= K) continue;
#pragma GCC unroll 7
      for (int j = 0; j < K; ++j) sum[r] += weights.at[i * K + j] * taps[j];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (kWhole)
      store(to + r * p.ow, columns.ordered(sum[r]));
    else
      store_lanes(to + r * p.ow, columns.ordered(sum[r]), columns.results);
  }
}

template <int R, class T, int K, int S>
CNNCORE_HD void forward_rows(const DepthwisePlane<T>& p, const Weights<T, K>& weights,
                             const Stripe<T, K, S>& stripe, const T* x, index_t u, T* y) {
  const index_t top = p.window.h.start(u);
  const bool inside = top >= 0 && top + (R - 1) * S + K <= p.height;
  for (index_t k = 0; k < stripe.count; ++k) {
    const Columns<T, K, S>& columns = stripe.columns[k];
    if (!inside)
      forward_block<R, false, false>(p, weights, columns, x, u, y);
    else if (columns.whole)
      forward_block<R, true, true>(p, weights, columns, x, u, y);
    else
      forward_block<R, true, false>(p, weights, columns, x, u, y);
  }
}

template <class T, int K, int S>
CNNCORE_HD void forward_stripe(const DepthwisePlane<T>& p, const Stripe<T, K, S>& stripe,
                               const T* x, T* y) {
  const Weights<T, K> weights(p.weight);
  index_t u = p.first;
  for (; u + 4 <= p.last; u += 4) forward_rows<4>(p, weights, stripe, x, u, y);
  if (p.last - u == 3)
    forward_rows<3>(p, weights, stripe, x, u, y);
  else if (p.last - u == 2)
    forward_rows<2>(p, weights, stripe, x, u, y);
  else if (p.last - u == 1)
    forward_rows<1>(p, weights, stripe, x, u, y);
}

template <class T, int K, int S>
void forward(DepthwisePlane<T> first, index_t planes, const T* x, T* y) {
  const index_t in = first.height * first.width, out = first.oh * first.ow;
  for (index_t v = 0; v < first.ow; v += Stripe<T, K, S>::width) {
    const Stripe<T, K, S> stripe(first, v);
    DepthwisePlane<T> p = first;
    for (index_t k = 0; k < planes; ++k, p.next())
      forward_stripe(p, stripe, x + k * in, y + k * out);
  }
}

// --- weight gradient -----------------------------------------------------------------------------

// Kernel rows I .. I + G, R rows of gy from u on: sum[(i - I) K + j] += gy x.
template <int R, int I, int G, bool kInside, bool kWhole, class T, int K, int S>
CNNCORE_HD void weight_block(const DepthwisePlane<T>& p, const Columns<T, K, S>& columns,
                             const T* x, const T* gy, index_t u, Vector<T> (&sum)[G * K]) {
  const T* const from = gy + u * p.ow + columns.v;
  Vector<T> g[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    g[r] = kWhole ? columns.ordered(load(from + r * p.ow))
                  : load_lanes(from + r * p.ow, columns.results);
  const index_t top = p.window.h.start(u);
#pragma GCC unroll 16
  for (int t = I; t < (R - 1) * S + I + G; ++t) {
    if (!kInside && (top + t < 0 || top + t >= p.height)) continue;
    Vector<T> taps[K];
    columns.template load_row<kWhole>(x + (top + t) * p.width, taps);
    if constexpr (!kWhole)  // what meets no gy may be infinite
#pragma GCC unroll 7
      for (int j = 0; j < K; ++j) taps[j] = keep_lanes(columns.ordered(taps[j]), columns.results);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int i = t - r * S - I;
      if (i < 0 || i >= G) continue;
#pragma GCC unroll 7
      for (int j = 0; j < K; ++j) sum[i * K + j] += g[r] * taps[j];
    }
  }
}

template <int R, int I, int G, class T, int K, int S>
CNNCORE_HD void weight_rows(const DepthwisePlane<T>& p, const Stripe<T, K, S>& stripe, const T* x,
                            const T* gy, index_t u, Vector<T> (&sum)[G * K]) {
  const index_t top = p.window.h.start(u);
  const bool inside = top + I >= 0 && top + (R - 1) * S + I + G <= p.height;
  for (index_t k = 0; k < stripe.count; ++k) {
    const Columns<T, K, S>& columns = stripe.columns[k];
    if (!inside)
      weight_block<R, I, G, false, false>(p, columns, x, gy, u, sum);
    else if (columns.whole)
      weight_block<R, I, G, true, true>(p, columns, x, gy, u, sum);
    else
      weight_block<R, I, G, true, false>(p, columns, x, gy, u, sum);
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
  for (index_t v = 0; v < p.ow; v += Stripe<T, K, S>::width) {
    const Stripe<T, K, S> stripe(p, v);
    for (index_t n = 0; n < all.images; ++n) {
      const T *const from = x + n * all.x_stride, *const with = gy + n * all.y_stride;
      index_t u = p.first;
      for (; u + R <= p.last; u += R) weight_rows<R, I, G>(p, stripe, from, with, u, sum);
      for (; u < p.last; ++u) weight_rows<1, I, G>(p, stripe, from, with, u, sum);
    }
  }
  total_lanes<T>(sum, gweight + I * K);
}

// Rows I .. K of the kernel, G at a time.
template <class T, int K, int S, int I, int G>
CNNCORE_HD void weight_parts(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, const T* x,
                             const T* gy, T* gweight) {
  if constexpr (I < K) {
    weight_part<T, K, S, I, (I + G < K ? G : K - I)>(p, all, x, gy, gweight);
    weight_parts<T, K, S, I + G, G>(p, all, x, gy, gweight);
  }
}

template <class T, int K, int S>
void weight(const DepthwisePlane<T>& p, const DepthwiseSum<T>& all, const T* x, const T* gy,
            T* gweight) {
  constexpr int most = kVectorRegisters == 32 ? 25 : 10;  // sums
  weight_parts<T, K, S, 0, (most / K < K ? most / K : K)>(p, all, x, gy, gweight);
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
  DepthwiseKernels<T> chosen{&forward<T, K, S>,
                             S == 2 ? &transpose2<T, K> : &transpose_each<T, &transpose_any<T>>,
                             &weight_each<T, &weight<T, K, S>>};
#if defined(__AVX512F__)
  if (NarrowRows<T, K, S, 1>::serves(p)) use_narrow<T, K, S, 1>(chosen);
  if (NarrowRows<T, K, S, 2>::serves(p)) use_narrow<T, K, S, 2>(chosen);
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
  // Vectors of 16 bytes are masked lane by lane, in too much code for a window this large.
  if constexpr (kVectorBytes > 16)
    if (square(p.window, 7, 1)) return kernels<T, 7, 1>(p);
  return {&forward_each<T, &forward_any<T>>, &transpose_each<T, &transpose_any<T>>,
          &weight_each<T, &weight_any<T>>};
}

template DepthwiseKernels<float> depthwise_kernels(const DepthwisePlane<float>&);
template DepthwiseKernels<double> depthwise_kernels(const DepthwisePlane<double>&);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
