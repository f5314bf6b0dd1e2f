// y = f(weight · (x − mean) · rstd + bias + residual), f an activation or nothing, needs two passes
// over x, its gradient two over gy and x. A task takes a few groups whose elements fit into the
// cache, and both passes follow each other at once. Within a pass rows are taken in the order of
// memory: all those of the task's groups in one image, then in the next. Where there are too few
// groups to keep a team busy, all rows go through the first pass, then all through the second, in
// pieces. Both ways add up the same pieces in the same order.
#include "cpu/normalize.h"

#include <cmath>

#include "cnncore/memory_pool.h"
#include "cnncore/moments.h"
#include "cnncore/registry.h"
#include "cpu/row_loops.h"
#include "cpu/rows.h"

namespace cnncore {

namespace {

constexpr index_t kFewGroups = 16;

// Calls first(row, rows, begin, end) for all rows, or pieces of one; join(group) once that is done
// for a group; and then second(row, rows, begin, end).
template <class First, class Join, class Second>
void by_groups(const RowGroups& g, First&& first, Join&& join, Second&& second) {
  if (g.count() < kFewGroups) {
    parallel_rows(g.rows(), g.length, first);
    for (index_t group = 0; group < g.count(); ++group) join(group);
    parallel_rows(g.rows(), g.length, second);
    return;
  }
  const auto run = [&](index_t row, index_t rows, auto&& pass) {
    if (g.length <= kRowPiece) return pass(row, rows, index_t{0}, g.length);
    for (index_t r = row; r < row + rows; ++r)
      for (index_t begin = 0; begin < g.length; begin += kRowPiece)
        pass(r, index_t{1}, begin, min_of(g.length, begin + kRowPiece));
  };
  parallel_for(g.count(), grain_for(g.size() * g.length), [&](index_t from, index_t to) {
    const auto everywhere = [&](auto&& pass) {
      if (!g.over_images) return run(from * g.members, (to - from) * g.members, pass);
      for (index_t image = 0; image < g.images; ++image)
        run(image * g.channels() + from, to - from, pass);
    };
    everywhere(first);
    for (index_t group = from; group < to; ++group) join(group);
    everywhere(second);
  });
}

// Two numbers for each piece of each row.
struct Parts {
  explicit Parts(const RowGroups& g)
      : pieces(max_of(1, ceil_div(g.length, kRowPiece))),
        first(g.rows() * pieces),
        second(g.rows() * pieces) {}
  index_t slot(index_t row, index_t begin) const { return row * pieces + begin / kRowPiece; }
  double total(const Scratch<double>& of, index_t row) const {
    double sum = 0;
    for (index_t piece = 0; piece < pieces; ++piece) sum += of[row * pieces + piece];
    return sum;
  }

  index_t pieces;
  Scratch<double> first, second;
};

template <class T>
double value(const T* factors, index_t channel, double otherwise) {
  return factors == nullptr ? otherwise : static_cast<double>(factors[channel]);
}

}  // namespace

CNNCORE_KERNEL(normalize);
template <class T>
void normalize(const RowGroups& g, const T* x, const T* weight, const T* bias, double eps,
               const T* residual, Limits limits, T* y, double* mean, double* variance) {
  const auto moments = CNNCORE_SELECT_ISA(row_moments_loop<T>);
  const auto limited = CNNCORE_SELECT_ISA(row_limited_loop<T>);
  const T low = static_cast<T>(limits.low), high = static_cast<T>(limits.high);
  const Parts parts(g);
  const Scratch<T> factors(g.rows()), offsets(g.rows());
  by_groups(
      g,
      [&](index_t row, index_t rows, index_t begin, index_t end) {
        const index_t slot = parts.slot(row, begin);
        moments(x + row * g.length + begin, rows, end - begin, g.length, &parts.first[slot],
                &parts.second[slot]);
      },
      [&](index_t group) {
        double seen = 0, group_mean = 0, squares = 0;
        for (index_t i = 0; i < g.size(); ++i) {
          for (index_t begin = 0; begin < g.length; begin += kRowPiece) {
            const index_t slot = parts.slot(g.row(group, i), begin);
            merge_moments(seen, group_mean, squares,
                          static_cast<double>(min_of(kRowPiece, g.length - begin)),
                          parts.first[slot], parts.second[slot]);
          }
        }
        mean[group] = group_mean;
        variance[group] = squares / seen;
        const double rstd = 1 / std::sqrt(variance[group] + eps);
        for (index_t i = 0; i < g.size(); ++i) {
          const index_t row = g.row(group, i);
          const double factor = rstd * value(weight, g.channel(row), 1);
          factors[row] = static_cast<T>(factor);
          offsets[row] = static_cast<T>(value(bias, g.channel(row), 0) - group_mean * factor);
        }
      },
      [&](index_t row, index_t rows, index_t begin, index_t end) {
        const index_t offset = row * g.length + begin;
        limited(x + offset, &factors[row], &offsets[row],
                residual == nullptr ? nullptr : residual + offset, low, high, rows, end - begin,
                g.length, y + offset);
      });
}

// With g = weight · f' · gy and sums over a group: gx = rstd · (g − mean(g) − x̂ · mean(g x̂)). What
// f' lets through of gy is computed in both passes: that is cheaper than an array for it.
CNNCORE_KERNEL(normalize_backward);
template <class T>
void normalize_backward(const RowGroups& g, const T* gy, const T* x, const T* weight,
                        const double* mean, const double* rstd, bool fixed, const T* y,
                        Limits limits, T* gx, T* gweight, T* gbias) {
  const auto products = CNNCORE_SELECT_ISA(row_products_loop<T>);
  const auto linear = CNNCORE_SELECT_ISA(row_linear2_loop<T>);
  const auto limited = CNNCORE_SELECT_ISA(row_limited2_loop<T>);
  const T low = static_cast<T>(limits.low), high = static_cast<T>(limits.high);
  const Parts parts(g);
  const Scratch<T> means(g.rows()), factors(g.rows()), slopes(g.rows()), offsets(g.rows());
  for (index_t row = 0; row < g.rows(); ++row) means[row] = static_cast<T>(mean[g.group_of(row)]);
  by_groups(
      g,
      [&](index_t row, index_t rows, index_t begin, index_t end) {
        const index_t slot = parts.slot(row, begin), offset = row * g.length + begin;
        products(gy + offset, x + offset, &means[row], y == nullptr ? nullptr : y + offset, low,
                 high, rows, end - begin, g.length, &parts.first[slot], &parts.second[slot]);
      },
      [&](index_t group) {
        double sum = 0, product = 0;
        for (index_t i = 0; i < g.size(); ++i) {
          const index_t row = g.row(group, i);
          const double w = value(weight, g.channel(row), 1);
          sum += w * parts.total(parts.first, row);
          product += w * parts.total(parts.second, row);
        }
        const double count = static_cast<double>(g.size() * g.length), r = rstd[group];
        const double slope = fixed ? 0 : -r * r * r * product / count;
        const double offset = fixed ? 0 : -r * sum / count - slope * mean[group];
        for (index_t i = 0; i < g.size(); ++i) {
          const index_t row = g.row(group, i);
          factors[row] = static_cast<T>(r * value(weight, g.channel(row), 1));
          slopes[row] = static_cast<T>(slope);
          offsets[row] = static_cast<T>(offset);
        }
      },
      [&](index_t row, index_t rows, index_t begin, index_t end) {
        const index_t offset = row * g.length + begin;
        const T *a = &factors[row], *b = &slopes[row], *c = &offsets[row];
        if (y == nullptr) {
          linear(gy + offset, x + offset, a, b, c, rows, end - begin, g.length, gx + offset);
        } else {
          limited(gy + offset, x + offset, a, b, c, y + offset, low, high, rows, end - begin,
                  g.length, gx + offset);
        }
      });
  for (index_t channel = 0; channel < g.channels(); ++channel) {
    double sum = 0, product = 0;
    for (index_t row = channel; row < g.rows(); row += g.channels()) {
      sum += parts.total(parts.first, row);
      product += parts.total(parts.second, row) * rstd[g.group_of(row)];
    }
    gweight[channel] = static_cast<T>(product);
    gbias[channel] = static_cast<T>(sum);
  }
}

#define CNNCORE_INSTANTIATE(T)                                                                    \
  template void normalize(const RowGroups&, const T*, const T*, const T*, double, const T*,       \
                          Limits, T*, double*, double*);                                          \
  template void normalize_backward(const RowGroups&, const T*, const T*, const T*, const double*, \
                                   const double*, bool, const T*, Limits, T*, T*, T*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
