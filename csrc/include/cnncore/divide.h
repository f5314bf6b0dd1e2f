// Division by a number that stays the same for a whole kernel, for host and device code.
#pragma once

#include "cnncore/macros.h"

namespace cnncore {

// Quotient and remainder of indices. For 64-bit indices the machine divides (some 70 instructions
// on a GPU); for 32-bit ones a multiplication and a shift do.
template <class I>
struct Divider {
  I divisor = 1;

  Divider() = default;
  explicit Divider(index_t d) : divisor(static_cast<I>(d)) {}
  CNNCORE_HD I quotient(I n) const { return n / divisor; }
  CNNCORE_HD I remainder(I n) const { return n % divisor; }
};

// n / d = floor((n · m / 2^32 + n) / 2^s) with s = ceil(log2 d), m = floor(2^32 (2^s - d) / d) + 1,
// exact for 0 <= n < 2^31 and 1 <= d < 2^31. Source: Granlund & Montgomery, "Division by invariant
// integers using multiplication", 1994, figure 4.1.
template <>
struct Divider<std::int32_t> {
  std::int32_t divisor = 1;
  std::uint32_t multiplier = 1, shift = 0;

  Divider() = default;
  explicit Divider(index_t d) : divisor(static_cast<std::int32_t>(d)) {
    if (d < 1 || d >= (index_t{1} << 31)) return;
    while ((index_t{1} << shift) < d) ++shift;
    const std::uint64_t excess = (std::uint64_t{1} << shift) - static_cast<std::uint64_t>(d);
    multiplier = static_cast<std::uint32_t>((excess << 32) / static_cast<std::uint64_t>(d) + 1);
  }
  CNNCORE_HD std::int32_t quotient(std::int32_t n) const {
    const auto value = static_cast<std::uint32_t>(n);
#if defined(__CUDA_ARCH__)
    const std::uint32_t high = __umulhi(value, multiplier);
#else
    const auto high =
        static_cast<std::uint32_t>((static_cast<std::uint64_t>(value) * multiplier) >> 32);
#endif
    return static_cast<std::int32_t>((high + value) >> shift);
  }
  CNNCORE_HD std::int32_t remainder(std::int32_t n) const { return n - quotient(n) * divisor; }
};

// Both, for functors that are called with either index.
class IndexDivider {
 public:
  IndexDivider() = default;
  explicit IndexDivider(index_t d) : small_(d), large_(d) {}
  CNNCORE_HD std::int32_t quotient(std::int32_t n) const { return small_.quotient(n); }
  CNNCORE_HD index_t quotient(index_t n) const { return large_.quotient(n); }
  CNNCORE_HD std::int32_t remainder(std::int32_t n) const { return small_.remainder(n); }
  CNNCORE_HD index_t remainder(index_t n) const { return large_.remainder(n); }

 private:
  Divider<std::int32_t> small_;  // means nothing for a divisor of 2^31 and more
  Divider<index_t> large_;
};

}  // namespace cnncore
