// Blocks cut into teams: each team of threads combines the values of one row, in an order that
// depends on its size only.
#pragma once

#include "cuda/launch.h"

namespace cnncore::cuda {

constexpr int kTeamThreads = 256;
constexpr index_t kShortRow = 1024;  // rows up to this are left to a team of 32

// values[t] of the first thread of each team becomes the combination of its team's.
template <int team, class Block, class V, class Combine>
CNNCORE_HD void combine_teams(const Block& block, V (&values)[kTeamThreads],
                              const Combine& combine) {
  for (int half = team / 2; half > 0; half /= 2)
    block.each_thread([&](int t) {
      if (t % team < half) values[t] = combine(values[t], values[t + half]);
    });
}

// Sum of `count` numbers `stride` apart: 16 in their own type, these in double.
template <class T, class Term>
CNNCORE_HD double strided_sum(index_t first, index_t stride, index_t end, const Term& term) {
  double total = 0;
  for (index_t i = first; i < end;) {
    T part = 0;
    for (int k = 0; k < 16 && i < end; ++k, i += stride) part += term(i);
    total += static_cast<double>(part);
  }
  return total;
}

// Calls fn with the size of the teams that suits rows of a length, as a type.
template <class Function>
void by_row_length(index_t length, Function&& fn) {
  if (length <= kShortRow)
    fn(std::integral_constant<int, 32>());
  else
    fn(std::integral_constant<int, kTeamThreads>());
}

template <int team>
index_t blocks_of_teams(index_t rows) {
  return ceil_div(rows, kTeamThreads / team);
}

}  // namespace cnncore::cuda
