// The activations and their first two derivatives, one struct each, for host and device code.
//
// at<order>(x, p, q) is the derivative of that order at x; p and q are the parameters of the kind.
// At a kink the derivative is PyTorch's. `e` always stands for exp(-|x|), which cannot overflow.
#pragma once

#include "cnncore/math.h"

namespace cnncore {

template <class T>
struct Sigmoid3 {  // the logistic function and two derivatives
  T value, first, second;
};

template <class T>
CNNCORE_HD Sigmoid3<T> sigmoid3(T x) {
  const T e = exponential(-absolute(x));
  const T d = T(1) / (T(1) + e);
  const T first = e * d * d;
  const T slope = (T(1) - e) * d;  // |1 - 2 value|
  return {x < T(0) ? e * d : T(1) - e * d, first, x < T(0) ? first * slope : -first * slope};
}

struct Relu {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    if (order == 0) return x <= T(0) ? T(0) : x;
    return order == 1 && x > T(0) ? T(1) : T(0);
  }
};

struct HardTanh {  // (low, high)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T low, T high) {
    if (order == 0) return clamp(x, low, high);
    return order == 1 && x > low && x < high ? T(1) : T(0);
  }
};

struct Relu6 {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    return HardTanh::at<order>(x, T(0), T(6));
  }
};

struct LeakyRelu {  // (slope)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T slope, T) {
    if (order == 0) return x > T(0) ? x : slope * x;
    return order == 2 ? T(0) : x > T(0) ? T(1) : slope;
  }
};

// scale · (x > 0 ? x : alpha (exp(x / width) - 1)); elu, selu and celu are its cases.
template <int order, class T>
CNNCORE_HD T exponential_linear(T x, T scale, T alpha, T width) {
  const T z = (x > T(0) ? T(0) : x) / width;
  if (order == 0) return scale * (x > T(0) ? x : alpha * exponential_minus_1(z));
  const T first = alpha / width * exponential(z);
  if (order == 1) return scale * (x > T(0) ? T(1) : first);
  return scale * (x > T(0) ? T(0) : first / width);
}

struct Elu {  // (alpha)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T alpha, T) {
    return exponential_linear<order>(x, T(1), alpha, T(1));
  }
};

struct Selu {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    return exponential_linear<order>(x, T(1.0507009873554804934193349852946),
                                     T(1.6732632423543772848170429916717), T(1));
  }
};

struct Celu {  // (alpha)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T alpha, T) {
    return exponential_linear<order>(x, T(1), alpha, alpha);
  }
};

struct Gelu {  // x Φ(x)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const T limited = clamp(x, T(-40), T(40));  // beyond, the density is zero and x² may overflow
    T density;
    const T cdf = normal_cdf(limited, density);
    if (order == 0) return x * cdf;
    if (order == 1) return cdf + limited * density;
    return density * (T(2) - limited * limited);
  }
};

struct GeluTanh {  // x (1 + tanh u)/2 = x σ(2u), u = √(2/π) (x + 0.044715 x³)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const T c = T(1.5957691216057307117597842397375);  // 2 √(2/π)
    const T k = T(0.044715);
    const T z = clamp(x, T(-40), T(40));
    const Sigmoid3<T> s = sigmoid3(c * z * (T(1) + k * z * z));
    if (order == 0) return x * s.value;
    const T v1 = c * (T(1) + T(3) * k * z * z);
    if (order == 1) return s.value + z * s.first * v1;
    return T(2) * s.first * v1 + z * (s.second * v1 * v1 + s.first * T(6) * c * k * z);
  }
};

struct Silu {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    if (order == 0) return times_logistic(x);
    const Sigmoid3<T> s = sigmoid3(x);
    if (order == 1) return s.value + x * s.first;
    return T(2) * s.first + x * s.second;
  }
};

struct Mish {  // x t, t = tanh(softplus(x)) = (m² + 2m)/(m² + 2m + 2), m = exp(x)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const T e = exponential(-absolute(x));
    const bool positive = x > T(0);  // then numerator and denominator are taken times exp(-2x)
    const T above = positive ? T(1) + T(2) * e : e * (e + T(2));
    const T rest = positive ? T(2) * e * e : T(2);
    const T d = T(1) / (above + rest);
    const T t = above * d;
    if (order == 0) return x * t;
    const Sigmoid3<T> s = sigmoid3(x);
    const T one_minus_square = rest * d * (T(1) + t);
    const T t1 = one_minus_square * s.value;
    if (order == 1) return t + x * t1;
    return T(2) * t1 + x * (one_minus_square * s.first - T(2) * t * t1 * s.value);
  }
};

struct Sigmoid {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const Sigmoid3<T> s = sigmoid3(x);
    return order == 0 ? s.value : order == 1 ? s.first : s.second;
  }
};

struct LogSigmoid {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    if (order == 0) return (x < T(0) ? x : T(0)) - log1p_unit(exponential(-absolute(x)));
    const Sigmoid3<T> s = sigmoid3(-x);
    return order == 1 ? s.value : -s.first;
  }
};

struct HardSigmoid {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    if (order == 0) return clamp(x / T(6) + T(0.5), T(0), T(1));
    return order == 1 && x > T(-3) && x < T(3) ? T(1) / T(6) : T(0);
  }
};

struct HardSwish {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    if (order == 0) return x <= T(-3) ? T(0) : x >= T(3) ? x : x * (x + T(3)) / T(6);
    if (order == 1) return x <= T(-3) ? T(0) : x >= T(3) ? T(1) : x / T(3) + T(0.5);
    return x > T(-3) && x < T(3) ? T(1) / T(3) : T(0);
  }
};

struct Tanh {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const T t = hyperbolic_tangent(x);
    if (order == 0) return t;
    const T first = T(4) * sigmoid3(T(2) * x).first;  // 1 - t² without its cancellation
    return order == 1 ? first : T(-2) * t * first;
  }
};

struct Softplus {  // (beta, threshold)
  template <int order, class T>
  CNNCORE_HD static T at(T x, T beta, T threshold) {
    const T z = beta * x;
    if (order == 0) {
      const T soft = (z > T(0) ? z : T(0)) + log1p_unit(exponential(-absolute(z)));
      return z > threshold ? x : soft / beta;
    }
    const Sigmoid3<T> s = sigmoid3(z);
    if (order == 1) return z > threshold ? T(1) : s.value;
    return z > threshold ? T(0) : beta * s.first;
  }
};

struct Softsign {
  template <int order, class T>
  CNNCORE_HD static T at(T x, T, T) {
    const T d = T(1) / (T(1) + absolute(x));
    if (order == 0) return x / (T(1) + absolute(x));
    if (order == 1) return d * d;
    return (x > T(0) ? T(-2) : x < T(0) ? T(2) : T(0)) * d * d * d;
  }
};

// Every kind once: X(name in Python, struct, number of parameters).
#define CNNCORE_ACTIVATIONS(X)   \
  X(relu, Relu, 0)               \
  X(relu6, Relu6, 0)             \
  X(leaky_relu, LeakyRelu, 1)    \
  X(elu, Elu, 1)                 \
  X(selu, Selu, 0)               \
  X(celu, Celu, 1)               \
  X(gelu, Gelu, 0)               \
  X(gelu_tanh, GeluTanh, 0)      \
  X(silu, Silu, 0)               \
  X(mish, Mish, 0)               \
  X(sigmoid, Sigmoid, 0)         \
  X(log_sigmoid, LogSigmoid, 0)  \
  X(hardsigmoid, HardSigmoid, 0) \
  X(hardswish, HardSwish, 0)     \
  X(hardtanh, HardTanh, 2)       \
  X(tanh, Tanh, 0)               \
  X(softplus, Softplus, 2)       \
  X(softsign, Softsign, 0)

enum class Activation {
#define CNNCORE_ENUMERATE(name, type, parameters) name,
  CNNCORE_ACTIVATIONS(CNNCORE_ENUMERATE)
#undef CNNCORE_ENUMERATE
      count
};

}  // namespace cnncore
