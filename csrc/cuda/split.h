// Taking a flat index apart into counters, by multiplications where it has 32 bits (divide.h).
#pragma once

#include "cnncore/divide.h"
#include "cnncore/geometry.h"

namespace cnncore::cuda {

// A counter of `size` values, at least one.
struct Split {
  index_t size;
  Divider<std::int32_t> small;  // of no use from 2^31 on

  Split(index_t size_) : size(max_of(1, size_)), small(size < (index_t{1} << 31) ? size : 1) {}

  CNNCORE_HD std::int32_t quotient(std::int32_t n) const { return small.quotient(n); }
  CNNCORE_HD index_t quotient(index_t n) const { return n / size; }

  // The counter that varies fastest; `rest` keeps the others.
  template <class I>
  CNNCORE_HD I take(I& rest) const {
    const I whole = quotient(rest), counter = rest - whole * static_cast<I>(size);
    rest = whole;
    return counter;
  }
};

}  // namespace cnncore::cuda
