// Activations and their derivatives, the arithmetic of two arrays. Meaning: contract.py.
#pragma once

#include "cnncore/activation.h"
#include "cnncore/view.h"

namespace cnncore {

// scale.data may be null.
template <class T>
void pointwise(ArrayView<const T> x, Activation kind, const double (&params)[2], int order,
               ArrayView<const T> scale, ArrayView<T> y);

enum class Binary { add, subtract, multiply, divide, maximum, count };

// One of a and b may have a single element, which meets every element of the other.
template <class T>
void binary(Binary kind, ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y);

}  // namespace cnncore
