// Batch, group and instance norm as one call: statistics, the affine map, and an activation after
// it for a group while its elements are in the cache. Meaning: contract.py.
#pragma once

#include "cpu/rows.h"

namespace cnncore {

// An input (N, G, M, I) seen as rows of I elements; statistics are shared by the rows of a group,
// which lie along axis 0 (batch norm) or axis 2 (the others).
struct RowGroups {
  index_t images, groups, members, length;
  bool over_images;

  index_t rows() const { return images * groups * members; }
  index_t count() const { return over_images ? groups * members : images * groups; }
  index_t size() const { return over_images ? images : members; }  // rows of a group
  index_t row(index_t group, index_t i) const {
    return over_images ? i * groups * members + group : group * members + i;
  }
  index_t group_of(index_t row) const {
    return over_images ? row % (groups * members) : row / members;
  }
  index_t channels() const { return groups * members; }
  index_t channel(index_t row) const { return row % channels(); }
};

// y = f(weight · x̂ + bias + residual). weight, bias and residual may be nullptr. Mean and variance:
// one number a group.
template <class T>
void normalize(const RowGroups& groups, const T* x, const T* weight, const T* bias, double eps,
               const T* residual, Limits limits, T* y, double* mean, double* variance);

// `fixed`: mean and rstd do not depend on x. `y` is the activation's result (without a residual in
// it), or nullptr where there is no activation.
template <class T>
void normalize_backward(const RowGroups& groups, const T* gy, const T* x, const T* weight,
                        const double* mean, const double* rstd, bool fixed, const T* y,
                        Limits limits, T* gx, T* gweight, T* gbias);

}  // namespace cnncore
