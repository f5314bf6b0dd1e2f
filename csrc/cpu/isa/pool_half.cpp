// Max pooling with winners to half the size: windows of 2x2 or 3x3 and stride 2, in one pass.
//
//   along:  m[r, j] = max over kw of x[r, 2j − left + kw]        and the tap kw that won
//   down:   y[i, j] = max over kh of m[2i − top + kh, j]         and the tap (kh, kw) that won
//
// A row of results takes two new rows of the plane; their pixels are sorted by even and odd columns
// in registers, so that the taps of neighbouring windows lie side by side. The third row of a 3x3
// window is the first of the next one: its maxima wait in a line of their own, the only thing that
// is written and read again. Both steps compare strictly and in order, so ties go to the lowest row
// and in it to the lowest column.
//
// Rows are read in place by whole vectors, the last of which overlaps the one before it. Values are
// compared with `>` only. Tasks in which that is not the whole truth, because a NaN (which wins)
// or a window of nothing but -infinity (whose first pixel wins) was seen, are done again from the
// definition.
//
// What bounds it is memory, and two thirds of the results are winners, which nobody reads before
// the backward pass. Where all arrays together would fill much of the last cache, winners go past
// it: their lines need not be read before they are written, and values and input stay in the cache.
#include "cpu/isa/pool_half.h"

#include "cnncore/taps.h"
#include "cpu/isa/lanes.h"
#include "cpu/isa/pool_lanes.h"
#include "cpu/isa/stream.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// A vector of maxima and which tap each is.
template <class T>
struct Best {
  typename PoolLanes<T>::Value value;
  typename PoolLanes<T>::Indices winner;

  CNNCORE_HD void take(const Best& other, typename PoolLanes<T>::Index offset) {
    take_larger<T>(value, winner, other.value, other.winner + offset);
  }
};

// What tells planes apart that comparisons alone do not serve: a sum of all pixels, which is NaN if
// one of them is, and the lowest of all results.
template <class T>
struct Watch {
  typename PoolLanes<T>::Value sum{}, lowest{};

  CNNCORE_HD bool alarmed() const {
    bool any = false;
    for (int lane = 0; lane < PoolLanes<T>::width; ++lane)
      any |= sum[lane] != sum[lane] || lowest[lane] == kLowest<T>;
    return any;
  }
};

// Maxima of a row's windows from at[0] on; `padded`: the first pixel does not exist.
template <int kernel, class T>
CNNCORE_HD Best<T> maxima_along(const T* at, bool padded, Watch<T>& watch) {
  constexpr int width = PoolLanes<T>::width;
  using Index = typename PoolLanes<T>::Index;
  const auto a = load(at), b = load(at + width);
  auto even = even_lanes(a, b, lane_numbers<T>());
  if (padded) even[0] = kLowest<T>;
  const auto odd = odd_lanes(a, b, lane_numbers<T>());
  Best<T> best{even, {}};
  take_larger<T>(best.value, best.winner, odd, broadcast(Index{1}));
  auto sum = even + odd;
  if constexpr (kernel == 3) {
    const auto next = even_lanes(load(at + 2), load(at + 2 + width), lane_numbers<T>());
    take_larger<T>(best.value, best.winner, next, broadcast(Index{2}));
    sum += next;
  }
  watch.sum += sum;
  return best;
}

// Maxima along one row, a value and a tap for each of its windows.
template <class T>
struct Line {
  T* values;
  typename PoolIndex<T>::type* winners;

  CNNCORE_HD Best<T> get(index_t j) const { return {load(values + j), load(winners + j)}; }
  CNNCORE_HD void put(index_t j, const Best<T>& best) const {
    store(values + j, best.value);
    store(winners + j, best.winner);
  }
};

// Where a row of results goes, in whole vectors.
template <bool streams, class T>
struct Results {
  T* y;
  std::int64_t* winners;

  CNNCORE_HD void put(index_t j, const Best<T>& best) const {
    store(y + j, best.value);
    widen(best.winner, winners + j, [](std::int64_t* to, auto v) {
      if constexpr (streams)
        stream(to, v);
      else
        store(to, v);
    });
  }
};

template <class T, int... I>
CNNCORE_HD typename PoolLanes<T>::Indices lane_vector(std::integer_sequence<int, I...>) {
  const typename PoolLanes<T>::Indices lanes = {I...};
  return lanes;
}

// A row of results from the rows a and b of the plane and, for a kernel of 3, the line above them;
// `below` takes the line of b. `origin` is the flat index of the first window's first pixel.
template <int kernel, bool streams, class T>
void pool_row(const HalfPool<T>& p, const T* a, const T* b, index_t origin, const Line<T>& above,
              const Line<T>& below, const Results<streams, T> to, Watch<T>& watch) {
  using Index = typename PoolLanes<T>::Index;
  const auto base = 2 * lane_vector<T>(lane_numbers<T>()) + static_cast<Index>(origin);
  // In registers: the compiler cannot know that no result overwrites the plan.
  const index_t count = p.out_width, left = p.left;
  const auto row = static_cast<Index>(p.width);
  Watch<T> seen = watch;
  each_vector<T>(count, [&](index_t j) {
    const Best<T> first = maxima_along<kernel>(a + 2 * j, j < left, seen);
    const Best<T> second = maxima_along<kernel>(b + 2 * j, j < left, seen);
    Best<T> best = first;
    if constexpr (kernel == 3) {
      best = above.get(j);
      best.take(first, row);
      below.put(j, second);
    }
    best.take(second, (kernel - 1) * row);
    best.winner += base + static_cast<Index>(2 * j);
    seen.lowest = best.value < seen.lowest ? best.value : seen.lowest;
    to.put(j, best);
  });
  watch = seen;
}

// Row r of plane x behind its padding. One that does not exist is of -infinity; whatever lies
// beside one that does reaches no result.
template <class T>
void copy_row(const HalfPool<T>& p, const T* x, index_t r, T* copy) {
  const bool exists = r >= 0 && r < p.height;
  for (index_t i = 0; i < p.row_room(); ++i) copy[i] = exists ? T(0) : kLowest<T>;
  if (exists)
    for (index_t i = 0; i < p.width; ++i) copy[p.left + i] = x[r * p.width + i];
}

// The same as vectors may read it: in place or else in `copy`.
template <class T>
CNNCORE_HD const T* padded_row(const HalfPool<T>& p, const T* x, index_t r, T* copy) {
  const index_t at = x - p.begin + r * p.width - p.left;
  if (r >= 0 && r < p.height && at >= 0 && at <= p.last) return p.begin + at;
  copy_row(p, x, r, copy);
  return copy;
}

// The windows first..last of row i from the definition.
template <class T>
void pool_plainly(const HalfPool<T>& p, const T* x, index_t i, index_t first, index_t last, T* y,
                  std::int64_t* winners) {
  const index_t h = 2 * i - p.top;
  for (index_t j = first; j < last; ++j) {
    const index_t w = 2 * j - p.left;
    rectangle_max(x, p.width, max_of(0, h), min_of(p.height, h + p.kernel), max_of(0, w),
                  min_of(p.width, w + p.kernel), y[j], winners[j]);
  }
}

template <int kernel, bool streams, class T>
void pool_plane(const HalfPool<T>& p, const T* x, const HalfPoolSpace<T>& space,
                Results<streams, T> to, const T* y_end, Watch<T>& watch) {
  constexpr index_t width = PoolLanes<T>::width;
  T spare_y[width];
  std::int64_t spare_winners[width];
  Line<T> above{space.values, space.winners};
  Line<T> below{space.values + p.pitch(), space.winners + p.pitch()};
  T* const second_row = space.rows + p.row_room();
  if constexpr (kernel == 3) {
    const T* const row = padded_row(p, x, -p.top, space.rows);
    each_vector<T>(p.out_width, [&](index_t j) {
      above.put(j, maxima_along<kernel>(row + 2 * j, j < p.left, watch));
    });
  }
  for (index_t i = 0; i < p.out_height; ++i, to.y += p.out_width, to.winners += p.out_width) {
    const index_t start = 2 * i - p.top, fresh = start + kernel - 2;
    const T* const a = padded_row(p, x, fresh, space.rows);
    const T* const b = padded_row(p, x, fresh + 1, second_row);
    // A row shorter than a vector is written beyond its end, into rows that come later, if any.
    const bool fits = p.out_width >= width || y_end - to.y >= width;
    const Results<streams, T> target = fits ? to : Results<streams, T>{spare_y, spare_winners};
    pool_row<kernel>(p, a, b, start * p.width - p.left, above, below, target, watch);
    for (index_t j = 0; !fits && j < p.out_width; ++j) {
      to.y[j] = spare_y[j];
      to.winners[j] = spare_winners[j];
    }
    if (p.whole < p.out_width) pool_plainly(p, x, i, p.whole, p.out_width, to.y, to.winners);
    if constexpr (kernel == 3) {
      const Line<T> done = above;
      above = below;
      below = done;
    }
  }
}

template <int kernel, bool streams, class T>
void pool_planes(const HalfPool<T>& p, const T* x, index_t planes, const HalfPoolSpace<T>& space,
                 T* y, std::int64_t* winners) {
  const index_t size = p.height * p.width, out_size = p.out_height * p.out_width;
  T* const y_end = y + planes * out_size;
  Watch<T> watch;
  for (index_t plane = 0; plane < planes; ++plane) {
    const index_t at = plane * out_size;
    pool_plane<kernel>(p, x + plane * size, space, Results<streams, T>{y + at, winners + at}, y_end,
                       watch);
  }
  if (streams) end_stream();
  if (!watch.alarmed()) return;
  for (index_t plane = 0; plane < planes; ++plane, x += size)
    for (index_t i = 0; i < p.out_height; ++i, y += p.out_width, winners += p.out_width)
      pool_plainly(p, x, i, 0, p.out_width, y, winners);
}

}  // namespace

template <class T>
void half_pool_loop(const HalfPool<T>& p, const T* x, index_t planes, const HalfPoolSpace<T>& space,
                    T* y, std::int64_t* winners) {
  const auto pool = p.kernel == 2 ? p.streams ? pool_planes<2, true, T> : pool_planes<2, false, T>
                    : p.streams   ? pool_planes<3, true, T>
                                  : pool_planes<3, false, T>;
  pool(p, x, planes, space, y, winners);
}

template void half_pool_loop(const HalfPool<float>&, const float*, index_t,
                             const HalfPoolSpace<float>&, float*, std::int64_t*);
template void half_pool_loop(const HalfPool<double>&, const double*, index_t,
                             const HalfPoolSpace<double>&, double*, std::int64_t*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
