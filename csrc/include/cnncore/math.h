// Elementary functions for host and device code. The float versions are branch-free, so that loops
// over them vectorise; each is within about two units in the last place. The double versions are
// the C library's.
#pragma once

#include <math.h>

#include "cnncore/macros.h"

namespace cnncore {

namespace detail {

CNNCORE_HD float float_from_bits(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

CNNCORE_HD std::uint32_t bits_from_float(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 2 to an integer power between -126 and 127.
CNNCORE_HD float power_of_two(std::int32_t n) {
  return float_from_bits(static_cast<std::uint32_t>(n + 127) << 23);
}

// x = n ln 2 + r with |r| <= ln(2)/2; returns e^r - 1. Adding 1.5 · 2^23 rounds to an integer and
// leaves it in the low bits. The polynomial is a minimax fit (relative error 1.1e-8).
CNNCORE_HD float reduced_expm1(float x, std::int32_t& n) {
  const float shift = 12582912.0f;
  const float shifted = x * 1.44269504f + shift;
  n = static_cast<std::int32_t>(bits_from_float(shifted) - 0x4B400000u);
  const float whole = shifted - shift;
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = 1.38888678e-3f;
  p = p * r + 8.36907569e-3f;
  p = p * r + 4.16671365e-2f;
  p = p * r + 1.66665062e-1f;
  p = p * r + 0.49999998f;
  p = p * r + 1.0f;
  return p * r;
}

}  // namespace detail

CNNCORE_HD float absolute(float x) {
  return __builtin_fabsf(x);
}
CNNCORE_HD double absolute(double x) {
  return __builtin_fabs(x);
}

// Limits x to low..high; NaN stays NaN.
template <class T>
CNNCORE_HD T clamp(T x, T low, T high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

CNNCORE_HD float exponential(float x) {
  std::int32_t n;
  const float p = detail::reduced_expm1(clamp(x, -105.0f, 89.0f), n);
  const std::int32_t half = n >> 1;  // two factors, since 2^n itself may be denormal or infinite
  return (1.0f + p) * detail::power_of_two(half) * detail::power_of_two(n - half);
}
CNNCORE_HD double exponential(double x) {
  return ::exp(x);
}

// x / (1 + e^-x). The exponential stays among the normal numbers, so that 2^n can be added to the
// exponent's bits: below -87 the result is that of -87, some -1e-36.
CNNCORE_HD float times_logistic(float x) {
  const float z = x < -87.0f ? -87.0f : x;
  std::int32_t n;
  const float p = detail::reduced_expm1(z > 87.0f ? -87.0f : -z, n);
  const std::uint32_t bits = detail::bits_from_float(1.0f + p);
  return z / (1.0f + detail::float_from_bits(bits + (static_cast<std::uint32_t>(n) << 23)));
}
CNNCORE_HD double times_logistic(double x) {
  return x / (1.0 + ::exp(-x));
}

// e^x - 1 for x <= 88 (beyond, that of 88).
CNNCORE_HD float exponential_minus_1(float x) {
  std::int32_t n;
  const float p = detail::reduced_expm1(clamp(x, -87.0f, 88.0f), n);
  const float s = detail::power_of_two(n);
  return s * p + (s - 1.0f);
}
CNNCORE_HD double exponential_minus_1(double x) {
  return ::expm1(x);
}

// log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e)); minimax fit, relative error 4e-9.
CNNCORE_HD float log1p_unit(float e) {
  const float s = e / (2.0f + e);
  const float z = s * s;
  float p = 1.40891670e-1f;
  p = p * z + 1.39803015e-1f;
  p = p * z + 2.00124551e-1f;
  p = p * z + 3.33331573e-1f;
  p = p * z + 1.0f;
  return 2.0f * s * p;
}
CNNCORE_HD double log1p_unit(double e) {
  return ::log1p(e);
}

CNNCORE_HD float hyperbolic_tangent(float x) {
  const float m = exponential_minus_1(-2.0f * absolute(x));
  const float t = -m / (2.0f + m);
  return x < 0.0f ? -t : t;
}
CNNCORE_HD double hyperbolic_tangent(double x) {
  return ::tanh(x);
}

// The standard normal distribution: cdf Φ(x), returned, and density φ(x). The float version writes
// the lower tail as e^(−x²/2) t p(t), t = 1/(1 + 0.3 |x|), with a minimax fit (relative error
// 3.5e-9) of the scaled complementary error function; p is centred at t = 0.6.
CNNCORE_HD float normal_cdf(float x, float& density) {
  const float limited = clamp(x, -14.3f, 14.3f);
  const float e = exponential(-0.5f * limited * limited);
  const float t = 1.0f / (1.0f + 0.3f * absolute(limited));
  const float u = t - 0.6f;
  float p = -2.06234909e-2f;
  p = p * u + 1.06888049e-3f;
  p = p * u + 4.41971921e-2f;
  p = p * u - 7.55382690e-3f;
  p = p * u - 9.10458060e-2f;
  p = p * u - 1.38198865e-2f;
  p = p * u + 2.25355884e-1f;
  p = p * u + 4.13744849e-1f;
  p = p * u + 4.05136748e-1f;
  p = p * u + 2.58572679e-1f;
  const float tail = e * t * p;
  density = 0.398942280f * e;
  return x < 0.0f ? tail : 1.0f - tail;
}
CNNCORE_HD double normal_cdf(double x, double& density) {
  density = 0.39894228040143267794 * ::exp(-0.5 * x * x);
  return 0.5 * ::erfc(-0.70710678118654752440 * x);
}

}  // namespace cnncore
