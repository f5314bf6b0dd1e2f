// Combining the moments of two parts of a row, for host and device code.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

// (count, mean, sum of squared deviations) of a run, extended by those of another. Source: Chan,
// Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
// 1979. The mean is written as a weighted average, which keeps an infinity an infinity.
CNNCORE_HD void merge_moments(double& count, double& mean, double& squares, double other_count,
                              double other_mean, double other_squares) {
  const double total = count + other_count;
  const double step = other_mean - mean;
  squares = count == 0 ? other_squares
                       : squares + other_squares + step * step * (count * other_count / total);
  mean = count == 0 ? other_mean : (count * mean + other_count * other_mean) / total;
  count = total;
}

}  // namespace cnncore
