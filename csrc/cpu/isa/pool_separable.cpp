// Max pooling with winners, one axis after the other, for windows without dilation. Those of 2x2
// and 3x3 with stride 2 have a form of their own, isa/pool_half.cpp.
//
//   along:  m[r, j]  = max over kw of x[r, j·sw − left + kw]   and the tap kw that won
//   down:   y[i, j]  = max over kh of m[i·sh − top + kh, j]    and the tap (kh, kw) that won
//
// Both compare strictly and in order, so ties go to the lowest row and in it to the lowest column:
// the same winner that one pass over the window in the order of memory finds. A 3x3 window costs 4
// comparisons instead of 9, and where windows overlap the maxima of a row serve several of them.
//
// Rows are read in place by whole vectors, the last of which overlaps the one before it; the few
// windows that reach into the padding are then done again, one by one. Nothing is masked. Values
// are compared with `>` only. Bands in which that is not the whole truth, because a NaN (which
// wins) or a window of nothing but -infinity (whose first pixel wins) was seen, are done again
// from the definition.
#include "cpu/isa/pool_separable.h"

#include "cnncore/taps.h"
#include "cpu/isa/lanes.h"
#include "cpu/isa/pool_lanes.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Elements ahead that are asked for: a band is read and written in turn, in bursts too short for
// the hardware to notice that they are one long run.
constexpr index_t kAhead = 512;

// The space of a band: the maxima along its input rows, a line each, and the taps that won.
template <class T>
struct BandLines {
  T* values;
  typename PoolIndex<T>::type* winners;
  index_t pitch;

  CNNCORE_HD BandLines at(index_t line) const {
    return {values + line * pitch, winners + line * pitch, pitch};
  }
};

// Maxima along `rows` rows; window j of row r begins at from[r · width + j · stride]. `sum` adds up
// what was read: it is NaN if there was one. kernel 0 stands for the one of the plan.
template <int kernel, int stride, class T>
void maxima_along(const SeparablePool<T>& p, const T* from, index_t rows, BandLines<T> lines,
                  typename PoolLanes<T>::Value& sum) {
  using Index = typename PoolIndex<T>::type;
  constexpr int width = PoolLanes<T>::width;
  const int kw = kernel > 0 ? kernel : static_cast<int>(p.window.w.kernel);
  const index_t row_step = p.width, count = p.out_width;
  typename PoolLanes<T>::Value total = sum;
  for (index_t r = 0; r < rows; ++r, from += row_step, lines = lines.at(1)) {
    each_vector<T>(count, [&](index_t j) {
      typename PoolLanes<T>::Indices winner{};
      const T* const at = from + stride * j;
      for (int i = 0; i < stride; ++i) __builtin_prefetch(at + i * width + kAhead);
      typename PoolLanes<T>::Value best = load(at), read = best;
      int k = 1;
      if constexpr (stride == 2) {
        const auto second = load(at + width);
        const auto odd = odd_lanes(best, second, lane_numbers<T>());
        best = even_lanes(best, second, lane_numbers<T>());
        read += second;
        if (kw > 1) take_larger<T>(best, winner, odd, broadcast(Index{1}));
        k = 2;
      }
      for (; k < kw; ++k) {
        auto value = load(at + k);
        if constexpr (stride == 2)
          value = even_lanes(value, load(at + k + width), lane_numbers<T>());
        read += value;
        take_larger<T>(best, winner, value, broadcast(static_cast<Index>(k)));
      }
      total += read;
      store(lines.values + j, best);
      store(lines.winners + j, winner);
    });
  }
  sum = total;
}

template <class T>
using Along = void (*)(const SeparablePool<T>&, const T*, index_t, BandLines<T>,
                       typename PoolLanes<T>::Value&);

template <class T>
Along<T> choose_along(const Window1d& w) {
  if (w.stride == 1) return w.kernel == 3 ? maxima_along<3, 1, T> : maxima_along<0, 1, T>;
  return maxima_along<0, 2, T>;
}

// The windows of a row that reach beyond its ends, one by one.
template <class T>
void at_the_edges(const SeparablePool<T>& p, const T* x, index_t rows, BandLines<T> lines) {
  const index_t stride = p.window.w.stride, left = p.window.w.before, kernel = p.window.w.kernel;
  for (index_t j = 0; j < p.out_width; ++j) {
    if (j == p.inside_begin && j < p.inside_end) j = p.inside_end;
    if (j >= p.out_width) break;
    const index_t start = j * stride - left;
    const index_t first = max_of(0, -start), last = min_of(kernel, p.width - start);
    for (index_t r = 0; r < rows; ++r) {
      const T* const at = x + r * p.width + start;
      index_t best = first;
      for (index_t tap = first + 1; tap < last; ++tap)
        if (at[tap] > at[best]) best = tap;
      lines.values[r * lines.pitch + j] = at[best];
      lines.winners[r * lines.pitch + j] = static_cast<typename PoolIndex<T>::type>(best);
    }
  }
}

// `rows` output rows from the lines of their taps first..last; `lines` begins with the one of tap
// 0, `origin` is the flat index of tap (0, 0) of the first window. A vector may write beyond a row,
// into the next one, which comes later, but not beyond y_end.
template <int kernel, class T>
void maxima_down(const SeparablePool<T>& p, index_t rows, index_t first, index_t last,
                 BandLines<T> lines, index_t origin, T* y, std::int64_t* out, const T* y_end,
                 typename PoolLanes<T>::Value& lowest) {
  using Index = typename PoolIndex<T>::type;
  constexpr int width = PoolLanes<T>::width;
  const index_t pitch = lines.pitch, stride = p.window.w.stride, columns = p.width;
  const index_t begin = kernel > 0 ? 0 : first, end = kernel > 0 ? kernel : last;
  const index_t count = p.out_width, line_step = p.window.h.stride;
  typename PoolLanes<T>::Indices base;
  for (int lane = 0; lane < width; ++lane) base[lane] = static_cast<Index>(lane * stride + origin);
  typename PoolLanes<T>::Value least = lowest;
  for (index_t r = 0; r < rows; ++r, lines = lines.at(line_step), y += count, out += count) {
    each_vector<T>(count, [&](index_t j) {
      auto best = load(lines.values + begin * pitch + j);
      auto winner = load(lines.winners + begin * pitch + j) + static_cast<Index>(begin * columns);
      for (index_t k = begin + 1; k < end; ++k)
        take_larger<T>(best, winner, load(lines.values + k * pitch + j),
                       load(lines.winners + k * pitch + j) + static_cast<Index>(k * columns));
      winner += base + static_cast<Index>(j * stride);
      if (y + j + width <= y_end) {
        least = best < least ? best : least;
        __builtin_prefetch(y + j + kAhead, 1);
        for (int i = 0; i < width; i += 8) __builtin_prefetch(out + j + kAhead + i, 1);
        store(y + j, best);
        widen(winner, out + j, [](std::int64_t* to, auto v) { store(to, v); });
      } else {
        for (int lane = 0; j + lane < count; ++lane) {
          least[lane] = best[lane] < least[lane] ? best[lane] : least[lane];
          y[j + lane] = best[lane];
          out[j + lane] = winner[lane];
        }
      }
    });
    base += static_cast<Index>(line_step * columns);
  }
  lowest = least;
}

template <class T>
using Down = void (*)(const SeparablePool<T>&, index_t, index_t, index_t, BandLines<T>, index_t, T*,
                      std::int64_t*, const T*, typename PoolLanes<T>::Value&);

// A band from the definition.
template <class T>
void pool_plainly(const T* x, const SeparablePool<T>& p, index_t first, index_t rows, T* y,
                  std::int64_t* winners) {
  const Window1d &h = p.window.h, &w = p.window.w;
  for (index_t oh = first; oh < first + rows; ++oh)
    for (index_t ow = 0; ow < p.out_width; ++ow, ++y, ++winners)
      rectangle_max(x, p.width, max_of(0, h.start(oh)), min_of(p.height, h.start(oh) + h.kernel),
                    max_of(0, w.start(ow)), min_of(p.width, w.start(ow) + w.kernel), *y, *winners);
}

// Input rows 0..rows of x. Vectors would read outside the array in its first and last rows, which
// are copied.
template <class T>
void pool_rows(const SeparablePool<T>& p, const T* x, index_t rows, const PoolSpace<T>& space,
               BandLines<T> lines, typename PoolLanes<T>::Value& sum) {
  const Along<T> along = choose_along<T>(p.window.w);
  const index_t left = p.window.w.before, room = p.row_room();
  index_t done = 0;
  while (done < rows) {
    const T* const from = x + done * p.width - left;
    index_t run = 1;
    if (from >= space.begin && space.end - from >= room) {
      run = min_of(rows - done, (space.end - from - room) / p.width + 1);
      along(p, from, run, lines.at(done), sum);
    } else {
      const index_t count = min_of(p.width, room - left);
      for (index_t i = 0; i < count; ++i) space.row[left + i] = from[left + i];
      along(p, space.row, 1, lines.at(done), sum);
    }
    done += run;
  }
  at_the_edges(p, x, rows, lines);
}

// Output rows first..first + rows; `lines` begins with the line of input row `top`.
template <class T>
void pool_lines(const SeparablePool<T>& p, index_t first, index_t rows, BandLines<T> lines, T* y,
                std::int64_t* out, const T* y_end, typename PoolLanes<T>::Value& lowest) {
  const Window1d& h = p.window.h;
  const Down<T> whole = h.kernel == 2 ? maxima_down<2, T> : maxima_down<3, T>;
  const bool known = h.kernel == 2 || h.kernel == 3;
  for (index_t done = 0; done < rows;) {
    const index_t start = h.start(first + done), at = done * p.out_width;
    const index_t origin = start * p.width - p.window.w.before;
    index_t tap, end, run = 1;
    h.taps_inside(first + done, p.height, tap, end);
    if (known && tap == 0 && end == h.kernel) {
      run = min_of(rows - done, (p.height - h.kernel - start) / h.stride + 1);
      whole(p, run, 0, end, lines.at(done * h.stride), origin, y + at, out + at, y_end, lowest);
    } else {
      maxima_down<0>(p, 1, tap, end, lines.at(done * h.stride), origin, y + at, out + at, y_end,
                     lowest);
    }
    done += run;
  }
}

}  // namespace

template <class T>
void separable_pool_loop(const T* x, const SeparablePool<T>& p, index_t planes,
                         const PoolSpace<T>& space, T* y, std::int64_t* out) {
  const T* const y_end = y + planes * p.out_height * p.out_width;
  const Window1d& h = p.window.h;
  const BandLines<T> lines{space.values, space.winners, p.pitch()};
  for (index_t i = 0; i < p.row_room(); ++i) space.row[i] = 0;
  for (index_t plane = 0; plane < planes; ++plane, x += p.height * p.width)
    for (index_t first = 0; first < p.out_height; first += p.band) {
      const index_t rows = min_of(p.band, p.out_height - first);
      const index_t top = h.start(first), above = max_of(0, top);
      const index_t below = min_of(p.height, h.start(first + rows - 1) + h.kernel);
      typename PoolLanes<T>::Value sum{}, lowest{};
      pool_rows(p, x + above * p.width, below - above, space, lines.at(above - top), sum);
      pool_lines(p, first, rows, lines, y, out, y_end, lowest);
      bool plainly = false;
      for (int lane = 0; lane < PoolLanes<T>::width; ++lane)
        plainly |= sum[lane] != sum[lane] || lowest[lane] == kLowest<T>;
      if (plainly) pool_plainly(x, p, first, rows, y, out);
      y += rows * p.out_width;
      out += rows * p.out_width;
    }
}

template void separable_pool_loop(const float*, const SeparablePool<float>&, index_t,
                                  const PoolSpace<float>&, float*, std::int64_t*);
template void separable_pool_loop(const double*, const SeparablePool<double>&, index_t,
                                  const PoolSpace<double>&, double*, std::int64_t*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
