// Rows of a matrix (R, I) on a device: moments, products, affine maps. Meaning: contract.py.
#pragma once

#include "cnncore/view.h"
#include "cuda/queue.h"

namespace cnncore::cuda {

// Rows are worked on in pieces of this length; `parts` (R, pieces, 2) holds what each piece found
// and is not touched where there is one.
constexpr index_t kRowPiece = 8192;

template <class T>
void row_moments(const Queue& queue, ArrayView<const T> x, ArrayView<double> parts,
                 ArrayView<T> mean, ArrayView<T> squares);
template <class T>
void row_products(const Queue& queue, ArrayView<const T> gy, ArrayView<const T> x,
                  ArrayView<const T> mean, ArrayView<double> parts, ArrayView<T> sums,
                  ArrayView<T> products);
// a x + b z + c with one a, b and c a row; z.data is null where there is no second term.
template <class T>
void row_linear(const Queue& queue, ArrayView<const T> x, ArrayView<const T> z,
                ArrayView<const T> a, ArrayView<const T> b, ArrayView<const T> c, ArrayView<T> y);

}  // namespace cnncore::cuda
