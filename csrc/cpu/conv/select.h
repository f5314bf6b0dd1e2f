// Which algorithm computes a convolution.
#pragma once

#include <string>
#include <vector>

#include "cpu/conv/algorithm.h"

namespace cnncore {

// Whether "auto" and "winograd" may take F(4 x 4, 3 x 3), whose rounding errors are about twice
// those of the others (docs/accuracy.md). One setting for the process.
enum class Precision { strict, fast };

Precision get_precision();
void set_precision(Precision precision);

// The algorithm of that name. "auto" is the cheapest by the rule of cost.h, "winograd" the better
// of its forms. Throws ArgumentError where the name is unknown or that algorithm does not serve
// the shape.
template <class T>
const ConvAlgorithm<T>& select_algorithm(const std::string& name, const ConvShape& shape,
                                         ConvDirection direction);

struct ConvEstimate {
  const char* name;
  double steps;  // see cost.h
  bool allowed;  // by the precision
};

// What each algorithm that serves the shape would cost, in the order of conv_algorithms().
template <class T>
std::vector<ConvEstimate> conv_estimates(const ConvShape& shape, ConvDirection direction);

}  // namespace cnncore
