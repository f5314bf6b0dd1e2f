// Maxima of the bins of one region in one plane, with winners. See cpu/pool.cpp.
//
//   down:   m[j]    = max over the rows of a bin of x[r, j]     for all columns j of the region
//   along:  y[p, q] = max over the columns of a bin of m[j]
//
// The first pass is vectors over columns; it keeps the row that won, the lowest of equals. In the
// second, of equal values the one of the lower row wins, and in a row the first: the order of the
// flat indices. A NaN (which wins) is only noticed; the row of bins is then done from the
// definition.
#include "cnncore/taps.h"
#include "cpu/isa/pool.h"
#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Maxima of columns low..high over rows h0..h1, h0 < h1; says whether a NaN was met, perhaps one
// beyond `high`.
template <class T>
bool max_down(const T* x, const T* x_end, index_t width, index_t h0, index_t h1, index_t low,
              index_t high, T* best_of, typename PoolIndex<T>::type* row_of) {
  using Index = typename PoolIndex<T>::type;
  typename Simd<Index>::vector nan{};
  index_t j = low;
  for (; j < high && x + (h1 - 1) * width + j + Simd<T>::width <= x_end; j += Simd<T>::width) {
    auto best = load(x + h0 * width + j);
    auto row = broadcast(static_cast<Index>(h0));
    nan |= best != best;
    for (index_t h = h0 + 1; h < h1; ++h) {
      const auto value = load(x + h * width + j);
      row = value > best ? broadcast(static_cast<Index>(h)) : row;
      best = value > best ? value : best;
      nan |= value != value;
    }
    store(best_of + j - low, best);
    store(row_of + j - low, row);
  }
  bool odd = false;
  for (; j < high; ++j) {
    T best = x[h0 * width + j];
    Index row = static_cast<Index>(h0);
    odd |= best != best;
    for (index_t h = h0 + 1; h < h1; ++h) {
      const T value = x[h * width + j];
      if (value > best) best = value, row = static_cast<Index>(h);
      odd |= value != value;
    }
    best_of[j - low] = best;
    row_of[j - low] = row;
  }
  for (int lane = 0; lane < Simd<T>::width; ++lane) odd |= nan[lane] != 0;
  return odd;
}

}  // namespace

// One region in one plane; `best_of` and `row_of` hold a line of x and a vector.
template <class T>
void bin_max_loop(const T* x, const T* x_end, const BinsView& rows, const BinsView& cols,
                  index_t region, T* best_of, typename PoolIndex<T>::type* row_of, T* y,
                  std::int64_t* winners) {
  const index_t width = cols.size, pw = cols.length;
  const std::int64_t* const w0 = cols.start + cols.row(region, 0);
  const std::int64_t* const w1 = cols.end + cols.row(region, 0);
  index_t low = width, high = 0;
  for (index_t q = 0; q < pw; ++q)
    if (w0[q] < w1[q]) {
      low = min_of(low, w0[q]);
      high = max_of(high, w1[q]);
    }
  for (index_t p = 0; p < rows.length; ++p, y += pw, winners += pw) {
    const index_t h0 = rows.start[rows.row(region, p)], h1 = rows.end[rows.row(region, p)];
    const bool empty = h0 >= h1 || low >= high;
    const bool odd = !empty && max_down(x, x_end, width, h0, h1, low, high, best_of, row_of);
    for (index_t q = 0; q < pw; ++q) {
      T best = 0;
      std::int64_t winner = -1;
      if (odd) {
        rectangle_max(x, width, h0, h1, w0[q], w1[q], best, winner);
      } else if (!empty && w0[q] < w1[q]) {
        index_t at = w0[q] - low;
        for (index_t j = at + 1; j < w1[q] - low; ++j) {
          const bool wins =
              best_of[j] > best_of[at] || (best_of[j] == best_of[at] && row_of[j] < row_of[at]);
          at = wins ? j : at;
        }
        best = best_of[at];
        winner = row_of[at] * width + low + at;
      }
      y[q] = best;
      winners[q] = winner;
    }
  }
}

template void bin_max_loop(const float*, const float*, const BinsView&, const BinsView&, index_t,
                           float*, std::int32_t*, float*, std::int64_t*);
template void bin_max_loop(const double*, const double*, const BinsView&, const BinsView&, index_t,
                           double*, std::int64_t*, double*, std::int64_t*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
