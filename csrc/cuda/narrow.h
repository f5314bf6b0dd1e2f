// float16 and bfloat16 as storage: kernels read and write them, and compute in float.
#pragma once

#include "cnncore/math.h"

#if defined(__CUDACC__)
  #include <cuda_bf16.h>
  #include <cuda_fp16.h>
#endif

namespace cnncore::cuda {

struct Half {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

// Nearest, ties to even, written out for the host; devices have an instruction.
CNNCORE_HD float widen(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 31u, fraction = x.bits & 1023u;
  if (exponent == 31) return detail::float_from_bits(sign | 0x7F800000u | fraction << 13);
  if (exponent == 0) {  // fraction · 2^-24
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign != 0 ? -value : value;
  }
  return detail::float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
#endif
}

CNNCORE_HD float widen(BFloat16 x) {
  return detail::float_from_bits(static_cast<std::uint32_t>(x.bits) << 16);
}
CNNCORE_HD float widen(float x) {
  return x;
}
CNNCORE_HD double widen(double x) {
  return x;
}

CNNCORE_HD void narrow(float x, float& y) {
  y = x;
}
CNNCORE_HD void narrow(double x, double& y) {
  y = x;
}

CNNCORE_HD void narrow(float x, BFloat16& y) {
#if defined(__CUDA_ARCH__)
  y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  const std::uint32_t bits = detail::bits_from_float(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u)  // NaN keeps its sign and stays one
    y.bits = static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  else
    y.bits = static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
#endif
}

CNNCORE_HD void narrow(float x, Half& y) {
#if defined(__CUDA_ARCH__)
  y.bits = __half_as_ushort(__float2half_rn(x));
#else
  const std::uint32_t bits = detail::bits_from_float(x), size = bits & 0x7FFFFFFFu;
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  std::uint32_t result;
  if (size > 0x7F800000u) {
    result = 0x7E00u;
  } else if (size >= 0x477FF000u) {  // from 65520 on
    result = 0x7C00u;
  } else if (size < 0x38800000u) {  // below 2^-14: adding 0.5 leaves whole 2^-24 in the low bits
    result = detail::bits_from_float(detail::float_from_bits(size) + 0.5f) - 0x3F000000u;
  } else {
    result = (size - 0x38000000u + 0xFFFu + (size >> 13 & 1u)) >> 13;
  }
  y.bits = static_cast<std::uint16_t>(sign | result);
#endif
}

// What a kernel computes in.
template <class T>
struct Computing {
  using type = float;
};
template <>
struct Computing<double> {
  using type = double;
};

}  // namespace cnncore::cuda
