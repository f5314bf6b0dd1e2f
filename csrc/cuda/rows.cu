// A team of threads a row (or a piece of one). The moments read a piece twice, the second time from
// the cache: a sum of squares around the mean loses nothing.
#include "cnncore/divide.h"
#include "cnncore/moments.h"
#include "cuda/map.h"
#include "cuda/rows.h"
#include "cuda/team.h"

namespace cnncore::cuda {
namespace {

// Which piece of which row a team works on.
struct Pieces {
  index_t rows, length, pieces;

  CNNCORE_HD index_t count() const { return rows * pieces; }
  CNNCORE_HD index_t row(index_t piece) const { return piece / pieces; }
  CNNCORE_HD index_t begin(index_t piece) const { return piece % pieces * kRowPiece; }
  CNNCORE_HD index_t end(index_t piece) const { return min_of(length, begin(piece) + kRowPiece); }
};

template <class T, int team>
struct Moments {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    double sum[kThreads], square[kThreads], guess[kThreads];
  };
  const T* x;
  Pieces work;
  double* parts;  // (piece, 2), or null: then there is one piece a row, and these are written
  T *mean, *squares;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const auto add = [](double a, double b) { return a + b; };
    const index_t first = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      shared.sum[t] = 0;
      if (piece >= work.count()) return;
      const T* row = x + work.row(piece) * work.length;
      shared.sum[t] = strided_sum<T>(work.begin(piece) + t % team, team, work.end(piece),
                                     [&](index_t i) { return row[i]; });
    });
    combine_teams<team>(block, shared.sum, add);
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      if (piece >= work.count() || t % team != 0) return;
      const double n = static_cast<double>(work.end(piece) - work.begin(piece));
      shared.guess[t / team] = static_cast<double>(static_cast<T>(shared.sum[t] / n));
    });
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      shared.sum[t] = shared.square[t] = 0;
      if (piece >= work.count()) return;
      const T* row = x + work.row(piece) * work.length;
      const T guess = static_cast<T>(shared.guess[t / team]);
      const index_t begin = work.begin(piece) + t % team, end = work.end(piece);
      double sum = 0, square = 0;
      for (index_t i = begin; i < end;) {
        T part = 0, part_square = 0;
        for (int k = 0; k < 16 && i < end; ++k, i += team) {
          const T d = row[i] - guess;
          part += d;
          part_square += d * d;
        }
        sum += static_cast<double>(part);
        square += static_cast<double>(part_square);
      }
      shared.sum[t] = sum;
      shared.square[t] = square;
    });
    combine_teams<team>(block, shared.sum, add);
    combine_teams<team>(block, shared.square, add);
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      if (piece >= work.count() || t % team != 0) return;
      const double n = static_cast<double>(work.end(piece) - work.begin(piece));
      const double sum = shared.sum[t];  // the rounding of the guess
      double middle = shared.guess[t / team], square = shared.square[t] - sum * sum / n;
      if (sum - sum == 0) middle += sum / n;  // not where x holds NaN or infinities
      if (square < 0) square = 0;
      write(piece, middle, square);
    });
  }

  CNNCORE_HD void write(index_t piece, double middle, double square) const {
    if (parts != nullptr) {
      parts[2 * piece] = middle;
      parts[2 * piece + 1] = square;
    } else {
      mean[piece] = static_cast<T>(middle);
      squares[piece] = static_cast<T>(square);
    }
  }
};

template <class T>
struct MergeMoments {
  Pieces work;
  const double* parts;
  T *mean, *squares;

  CNNCORE_HD void operator()(index_t row) const {
    double count = 0, middle = 0, square = 0;
    for (index_t p = row * work.pieces; p < (row + 1) * work.pieces; ++p)
      merge_moments(count, middle, square, static_cast<double>(work.end(p) - work.begin(p)),
                    parts[2 * p], parts[2 * p + 1]);
    mean[row] = static_cast<T>(middle);
    squares[row] = static_cast<T>(square);
  }
};

template <class T, int team>
struct Products {
  static constexpr int kThreads = kTeamThreads;
  struct Shared {
    double sum[kThreads], product[kThreads];
  };
  const T *gy, *x, *mean;
  Pieces work;
  double* parts;
  T *sums, *products;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const auto add = [](double a, double b) { return a + b; };
    const index_t first = block.index * (kThreads / team);
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      shared.sum[t] = shared.product[t] = 0;
      if (piece >= work.count()) return;
      const index_t row = work.row(piece), offset = row * work.length;
      const T middle = mean[row];
      const index_t begin = work.begin(piece) + t % team, end = work.end(piece);
      double sum = 0, product = 0;
      for (index_t i = begin; i < end;) {
        T part = 0, part_product = 0;
        for (int k = 0; k < 16 && i < end; ++k, i += team) {
          const T g = gy[offset + i];
          part += g;
          part_product += g * (x[offset + i] - middle);
        }
        sum += static_cast<double>(part);
        product += static_cast<double>(part_product);
      }
      shared.sum[t] = sum;
      shared.product[t] = product;
    });
    combine_teams<team>(block, shared.sum, add);
    combine_teams<team>(block, shared.product, add);
    block.each_thread([&](int t) {
      const index_t piece = first + t / team;
      if (piece >= work.count() || t % team != 0) return;
      if (parts != nullptr) {
        parts[2 * piece] = shared.sum[t];
        parts[2 * piece + 1] = shared.product[t];
      } else {
        sums[piece] = static_cast<T>(shared.sum[t]);
        products[piece] = static_cast<T>(shared.product[t]);
      }
    });
  }
};

template <class T>
struct AddProducts {
  index_t pieces;
  const double* parts;
  T *sums, *products;

  CNNCORE_HD void operator()(index_t row) const {
    double sum = 0, product = 0;
    for (index_t p = row * pieces; p < (row + 1) * pieces; ++p) {
      sum += parts[2 * p];
      product += parts[2 * p + 1];
    }
    sums[row] = static_cast<T>(sum);
    products[row] = static_cast<T>(product);
  }
};

// One pack of a row: y = a x + b z + c.
template <class T, int width, bool two>
struct Linear {
  const T *x, *z, *a, *b, *c;
  T* y;
  IndexDivider packs;  // in a row

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    const I row = packs.quotient(i);
    const T factor = a[row], second = two ? b[row] : T(0), offset = c[row];
    using Packed = Pack<T, width>;
    Packed values = reinterpret_cast<const Packed*>(x)[i];
    Packed others{};
    if (two) others = reinterpret_cast<const Packed*>(z)[i];
    for (int lane = 0; lane < width; ++lane) {
      T sum = factor * values.value[lane] + offset;
      if (two) sum += second * others.value[lane];
      values.value[lane] = sum;
    }
    reinterpret_cast<Packed*>(y)[i] = values;
  }
};

template <class T, int width>
void run_linear(const Queue& queue, ArrayView<const T> x, const T* z, const T* a, const T* b,
                const T* c, T* y) {
  const index_t count = x.size() / width;
  const IndexDivider packs(max_of(x[1] / width, 1));
  if (z == nullptr)
    for_each_index(queue, "row_linear", count, count,
                   Linear<T, width, false>{x.data, z, a, b, c, y, packs});
  else
    for_each_index(queue, "row_linear2", count, count,
                   Linear<T, width, true>{x.data, z, a, b, c, y, packs});
}

}  // namespace

template <class T>
void row_moments(const Queue& queue, ArrayView<const T> x, ArrayView<double> parts,
                 ArrayView<T> mean, ArrayView<T> squares) {
  const Pieces work{x[0], x[1], ceil_div(x[1], kRowPiece)};
  double* between = work.pieces > 1 ? parts.data : nullptr;
  by_row_length(x[1], [&](auto team) {
    for_each_block(queue, "row_moments", blocks_of_teams<team()>(work.count()),
                   Moments<T, team()>{x.data, work, between, mean.data, squares.data});
  });
  if (between != nullptr)
    for_each_element(queue, "row_moments", x[0],
                     MergeMoments<T>{work, between, mean.data, squares.data});
}

template <class T>
void row_products(const Queue& queue, ArrayView<const T> gy, ArrayView<const T> x,
                  ArrayView<const T> mean, ArrayView<double> parts, ArrayView<T> sums,
                  ArrayView<T> products) {
  // a row without elements still has sums: zeros
  const Pieces work{x[0], x[1], max_of(1, ceil_div(x[1], kRowPiece))};
  double* between = work.pieces > 1 ? parts.data : nullptr;
  by_row_length(x[1], [&](auto team) {
    for_each_block(
        queue, "row_products", blocks_of_teams<team()>(work.count()),
        Products<T, team()>{gy.data, x.data, mean.data, work, between, sums.data, products.data});
  });
  if (between != nullptr)
    for_each_element(queue, "row_products", x[0],
                     AddProducts<T>{work.pieces, between, sums.data, products.data});
}

template <class T>
void row_linear(const Queue& queue, ArrayView<const T> x, ArrayView<const T> z,
                ArrayView<const T> a, ArrayView<const T> b, ArrayView<const T> c, ArrayView<T> y) {
  constexpr int width = 16 / static_cast<int>(sizeof(T));
  const auto aligned = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (x[1] % width == 0 && aligned(x.data) && aligned(z.data) && aligned(y.data))
    run_linear<T, width>(queue, x, z.data, a.data, b.data, c.data, y.data);
  else
    run_linear<T, 1>(queue, x, z.data, a.data, b.data, c.data, y.data);
}

#define CNNCORE_INSTANTIATE(T)                                                                   \
  template void row_moments(const Queue&, ArrayView<const T>, ArrayView<double>, ArrayView<T>,   \
                            ArrayView<T>);                                                       \
  template void row_products(const Queue&, ArrayView<const T>, ArrayView<const T>,               \
                             ArrayView<const T>, ArrayView<double>, ArrayView<T>, ArrayView<T>); \
  template void row_linear(const Queue&, ArrayView<const T>, ArrayView<const T>,                 \
                           ArrayView<const T>, ArrayView<const T>, ArrayView<const T>,           \
                           ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
