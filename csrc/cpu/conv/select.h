// Which algorithm computes a convolution.
#pragma once

#include <string>

#include "cpu/conv/algorithm.h"

namespace cnncore {

// The algorithm of that name, or, for "auto", the one that the rule below picks for the shape.
// Throws ArgumentError where the name is unknown or that algorithm does not serve the shape.
template <class T>
const ConvAlgorithm<T>& select_algorithm(const std::string& name, const ConvShape& shape,
                                         ConvDirection direction);

}  // namespace cnncore
