// Where the last axis has one element, a team of threads takes a row; else neighbouring threads
// take neighbouring columns, so that what a warp reads is contiguous in both cases.
#include "cnncore/math.h"
#include "cuda/reduce.h"
#include "cuda/team.h"

namespace cnncore::cuda {
namespace {

// --- sums
// -----------------------------------------------------------------------------------------

template <class X, class Y>
struct SumColumns {
  const X* x;
  Y* y;
  index_t length, inner, piece, pieces;

  CNNCORE_HD void operator()(index_t at) const {  // (o, p, i) of y
    const index_t i = at % inner, op = at / inner;
    const index_t o = op / pieces, first = op % pieces * piece;
    const X* column = x + o * length * inner + i;
    y[at] =
        static_cast<Y>(strided_sum<X>(first * inner, inner, min_of(length, first + piece) * inner,
                                      [&](index_t k) { return column[k]; }));
  }
};

template <class X, class Y, int team>
struct SumRows {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    double sum[kThreads];
  };
  const X* x;
  Y* y;
  index_t count, length, piece, pieces;  // count = rows · pieces

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t base = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t at = base + t / team;
      shared.sum[t] = 0;
      if (at >= count) return;
      const X* row = x + at / pieces * length;
      const index_t first = at % pieces * piece;
      shared.sum[t] = strided_sum<X>(first + t % team, team, min_of(length, first + piece),
                                     [&](index_t k) { return row[k]; });
    });
    combine_teams<team>(block, shared.sum, [](double a, double b) { return a + b; });
    block.each_thread([&](int t) {
      const index_t at = base + t / team;
      if (at < count && t % team == 0) y[at] = static_cast<Y>(shared.sum[t]);
    });
  }
};

// --- maxima
// ---------------------------------------------------------------------------------------

template <class T>
struct Best {
  T value;
  index_t index;  // -1: nothing yet
};

// The first NaN, else the first of the largest.
template <class T>
CNNCORE_HD Best<T> better(const Best<T>& a, const Best<T>& b) {
  if (a.index < 0) return b;
  if (b.index < 0) return a;
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  const bool a_first = a.index < b.index;
  if (a_nan || b_nan) return a_nan && (!b_nan || a_first) ? a : b;
  if (a.value == b.value) return a_first ? a : b;
  return a.value > b.value ? a : b;
}

template <class T>
struct MaxColumns {
  const T* x;
  T* values;
  std::int64_t* indices;
  index_t length, inner;

  CNNCORE_HD void operator()(index_t at) const {  // (o, i)
    const T* column = x + at / inner * length * inner + at % inner;
    Best<T> best{column[0], 0};
    for (index_t k = 1; k < length; ++k) best = better(best, {column[k * inner], k});
    values[at] = best.value;
    indices[at] = best.index;
  }
};

template <class T, int team>
struct MaxRows {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    Best<T> best[kThreads];
  };
  const T* x;
  T* values;
  std::int64_t* indices;
  index_t rows, length;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t base = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t r = base + t / team;
      Best<T> best{T(0), -1};
      if (r < rows)
        for (index_t k = t % team; k < length; k += team)
          best = better(best, {x[r * length + k], k});
      shared.best[t] = best;
    });
    combine_teams<team>(block, shared.best,
                        [](const Best<T>& a, const Best<T>& b) { return better(a, b); });
    block.each_thread([&](int t) {
      const index_t r = base + t / team;
      if (r >= rows || t % team != 0) return;
      values[r] = shared.best[t].value;
      indices[r] = shared.best[t].index;
    });
  }
};

// --- softmax
// --------------------------------------------------------------------------------------

CNNCORE_HD float logarithm(float x) {
  return ::logf(x);
}
CNNCORE_HD double logarithm(double x) {
  return ::log(x);
}

// NaN wins.
template <class T>
CNNCORE_HD T larger(T a, T b) {
  return a != a || a > b ? a : b;
}

template <class T>
CNNCORE_HD T softmax_of(T x, T top, T total, bool log) {
  return log ? (x - top) - logarithm(total) : exponential(x - top) / total;
}

template <class T>
struct SoftmaxColumns {
  const T* x;
  T* y;
  index_t length, inner;
  bool log;

  CNNCORE_HD void operator()(index_t at) const {  // (o, i)
    const index_t offset = at / inner * length * inner + at % inner, end = length * inner;
    const T* column = x + offset;
    T top = column[0];
    for (index_t k = inner; k < end; k += inner) top = larger(top, column[k]);
    const T total = static_cast<T>(
        strided_sum<T>(0, inner, end, [&](index_t k) { return exponential(column[k] - top); }));
    for (index_t k = 0; k < end; k += inner) y[offset + k] = softmax_of(column[k], top, total, log);
  }
};

template <class T, int team>
struct SoftmaxRows {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    T top[kThreads];
    double sum[kThreads];
  };
  const T* x;
  T* y;
  index_t rows, length;
  bool log;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t base = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t r = min_of(base + t / team, rows - 1);
      T top = x[r * length];
      for (index_t k = t % team; k < length; k += team) top = larger(top, x[r * length + k]);
      shared.top[t] = top;
    });
    combine_teams<team>(block, shared.top, [](T a, T b) { return larger(a, b); });
    block.each_thread([&](int t) {
      const T* row = x + min_of(base + t / team, rows - 1) * length;
      const T top = shared.top[t - t % team];
      shared.sum[t] = strided_sum<T>(t % team, team, length,
                                     [&](index_t k) { return exponential(row[k] - top); });
    });
    combine_teams<team>(block, shared.sum, [](double a, double b) { return a + b; });
    block.each_thread([&](int t) {
      const index_t r = base + t / team;
      if (r >= rows) return;
      const T top = shared.top[t - t % team], total = static_cast<T>(shared.sum[t - t % team]);
      for (index_t k = t % team; k < length; k += team)
        y[r * length + k] = softmax_of(x[r * length + k], top, total, log);
    });
  }
};

template <class T>
CNNCORE_HD T softmax_slope(T gy, T y, T total, bool log) {
  return log ? gy - exponential(y) * total : y * (gy - total);
}

template <class T>
struct SoftmaxBackwardColumns {
  const T *gy, *y;
  T* gx;
  index_t length, inner;
  bool log;

  CNNCORE_HD void operator()(index_t at) const {  // (o, i)
    const index_t offset = at / inner * length * inner + at % inner, end = length * inner;
    const T *g = gy + offset, *p = y + offset;
    const bool plain = log;
    const T total = static_cast<T>(
        strided_sum<T>(0, inner, end, [&](index_t k) { return plain ? g[k] : g[k] * p[k]; }));
    for (index_t k = 0; k < end; k += inner) gx[offset + k] = softmax_slope(g[k], p[k], total, log);
  }
};

template <class T, int team>
struct SoftmaxBackwardRows {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    double sum[kThreads];
  };
  const T *gy, *y;
  T* gx;
  index_t rows, length;
  bool log;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t base = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t r = min_of(base + t / team, rows - 1);
      const T *g = gy + r * length, *p = y + r * length;
      const bool plain = log;
      shared.sum[t] = strided_sum<T>(t % team, team, length,
                                     [&](index_t k) { return plain ? g[k] : g[k] * p[k]; });
    });
    combine_teams<team>(block, shared.sum, [](double a, double b) { return a + b; });
    block.each_thread([&](int t) {
      const index_t r = base + t / team;
      if (r >= rows) return;
      const T total = static_cast<T>(shared.sum[t - t % team]);
      for (index_t k = r * length + t % team; k < (r + 1) * length; k += team)
        gx[k] = softmax_slope(gy[k], y[k], total, log);
    });
  }
};

}  // namespace

template <class X, class Y>
void sum_pieces(const Queue& queue, ArrayView<const X> x, index_t piece, ArrayView<Y> y) {
  const index_t count = y.size(), length = x[1], inner = x[2], pieces = y[1];
  if (inner > 1) {
    for_each_element(queue, "reduce_sum", count,
                     SumColumns<X, Y>{x.data, y.data, length, inner, piece, pieces});
    return;
  }
  by_row_length(min_of(length, piece), [&](auto team) {
    for_each_block(queue, "reduce_sum", blocks_of_teams<team()>(count),
                   SumRows<X, Y, team()>{x.data, y.data, count, length, piece, pieces});
  });
}

template <class T>
void max_middle(const Queue& queue, ArrayView<const T> x, ArrayView<T> values,
                ArrayView<std::int64_t> indices) {
  const index_t count = x[0] * x[2], length = x[1], inner = x[2];
  if (inner > 1) {
    for_each_element(queue, "reduce_max", count,
                     MaxColumns<T>{x.data, values.data, indices.data, length, inner});
    return;
  }
  by_row_length(length, [&](auto team) {
    for_each_block(queue, "reduce_max", blocks_of_teams<team()>(count),
                   MaxRows<T, team()>{x.data, values.data, indices.data, count, length});
  });
}

template <class T>
void softmax(const Queue& queue, ArrayView<const T> x, bool log, ArrayView<T> y) {
  const index_t count = x[0] * x[2], length = x[1], inner = x[2];
  if (inner > 1) {
    for_each_element(queue, "softmax", count,
                     SoftmaxColumns<T>{x.data, y.data, length, inner, log});
    return;
  }
  by_row_length(length, [&](auto team) {
    for_each_block(queue, "softmax", blocks_of_teams<team()>(count),
                   SoftmaxRows<T, team()>{x.data, y.data, count, length, log});
  });
}

template <class T>
void softmax_backward(const Queue& queue, ArrayView<const T> gy, ArrayView<const T> y, bool log,
                      ArrayView<T> gx) {
  const index_t count = y[0] * y[2], length = y[1], inner = y[2];
  if (inner > 1) {
    for_each_element(queue, "softmax_backward", count,
                     SoftmaxBackwardColumns<T>{gy.data, y.data, gx.data, length, inner, log});
    return;
  }
  by_row_length(length, [&](auto team) {
    for_each_block(queue, "softmax_backward", blocks_of_teams<team()>(count),
                   SoftmaxBackwardRows<T, team()>{gy.data, y.data, gx.data, count, length, log});
  });
}

template void sum_pieces(const Queue&, ArrayView<const float>, index_t, ArrayView<float>);
template void sum_pieces(const Queue&, ArrayView<const float>, index_t, ArrayView<double>);
template void sum_pieces(const Queue&, ArrayView<const double>, index_t, ArrayView<float>);
template void sum_pieces(const Queue&, ArrayView<const double>, index_t, ArrayView<double>);

#define CNNCORE_INSTANTIATE(T)                                                               \
  template void max_middle(const Queue&, ArrayView<const T>, ArrayView<T>,                   \
                           ArrayView<std::int64_t>);                                         \
  template void softmax(const Queue&, ArrayView<const T>, bool, ArrayView<T>);               \
  template void softmax_backward(const Queue&, ArrayView<const T>, ArrayView<const T>, bool, \
                                 ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
