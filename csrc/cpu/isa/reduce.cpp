// Sums and maxima down the columns of a matrix. See cpu/reduce.cpp.
#include "cpu/isa/wide.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

constexpr index_t kTile = 256;  // columns held in L1
constexpr index_t kRows = 256;  // rows added up in T before they go to double

// sums[i] = Σ_l x[l · inner + i] for up to kTile columns.
template <class T>
void sum_tile(const T* __restrict x, index_t length, index_t inner, index_t columns,
              double* __restrict sums) {
  T partial[kTile];
  for (index_t i = 0; i < columns; ++i) sums[i] = 0;
  for (index_t begin = 0; begin < length; begin += kRows) {
    const index_t end = min_of(length, begin + kRows);
    for (index_t i = 0; i < columns; ++i) partial[i] = 0;
    index_t l = begin;
    for (; l + 4 <= end; l += 4) {
      const T* __restrict r0 = x + l * inner, * __restrict r1 = r0 + inner;
      const T* __restrict r2 = r1 + inner, * __restrict r3 = r2 + inner;
      for (index_t i = 0; i < columns; ++i) partial[i] += (r0[i] + r1[i]) + (r2[i] + r3[i]);
    }
    for (; l < end; ++l)
      for (index_t i = 0; i < columns; ++i) partial[i] += x[l * inner + i];
    for (index_t i = 0; i < columns; ++i) sums[i] += static_cast<double>(partial[i]);
  }
}

}  // namespace

template <class T>
void sum_columns_loop(const T* x, index_t length, index_t inner, index_t columns, T* y) {
  if (inner == 1) {
    *y = static_cast<T>(sum_run(x, length));
    return;
  }
  double sums[kTile];
  // Few columns: several rows side by side make one long row.
  const index_t fold = columns == inner ? min_of(kTile / inner, length) : 1;
  if (fold > 1) {
    sum_tile(x, length / fold, inner * fold, inner * fold, sums);
    for (index_t i = 0; i < inner; ++i) {
      double total = 0;
      for (index_t part = 0; part < fold; ++part) total += sums[part * inner + i];
      for (index_t l = length / fold * fold; l < length; ++l)
        total += static_cast<double>(x[l * inner + i]);
      y[i] = static_cast<T>(total);
    }
    return;
  }
  for (index_t begin = 0; begin < columns; begin += kTile) {
    const index_t width = min_of(kTile, columns - begin);
    sum_tile(x + begin, length, inner, width, sums);
    for (index_t i = 0; i < width; ++i) y[begin + i] = static_cast<T>(sums[i]);
  }
}

template <class T>
void max_columns_loop(const T* x, index_t length, index_t inner, index_t columns, T* values,
                      index_t* indices) {
  for (index_t begin = 0; begin < columns; begin += kTile) {
    const index_t width = min_of(kTile, columns - begin);
    T* __restrict best = values + begin;
    index_t* __restrict winner = indices + begin;
    for (index_t i = 0; i < width; ++i) {
      best[i] = x[begin + i];
      winner[i] = 0;
    }
    for (index_t l = 1; l < length; ++l) {
      const T* __restrict row = x + l * inner + begin;
      for (index_t i = 0; i < width; ++i) {
        const bool wins = !(row[i] <= best[i]) && best[i] == best[i];  // the first NaN stays
        best[i] = wins ? row[i] : best[i];
        winner[i] = wins ? l : winner[i];
      }
    }
  }
}

#define CNNCORE_INSTANTIATE(T)                                             \
  template void sum_columns_loop(const T*, index_t, index_t, index_t, T*); \
  template void max_columns_loop(const T*, index_t, index_t, index_t, T*, index_t*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
