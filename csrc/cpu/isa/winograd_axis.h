// Winograd's minimal filtering along one axis: the forms F(4, 3), F(2, 3) and F(3, 2).
//
// Toom and Cook: two polynomials of m and r coefficients are multiplied by multiplying their values
// at n = m + r - 1 points (one of them may be infinity: the leading coefficient). With points p_j,
//   A[j][i] = p_j^i,  G[j][k] = p_j^k / N_j,  N_j = product over l != j of (p_j - p_l),
//   row j of Bᵀ: the coefficients of the product over l != j of (x - p_l),
// and for infinity the last unit vectors and the product over all l. Where 1 / N_j costs additional
// operations in G, it stands in A instead: the products between them do not mind.
// Include from csrc/cpu/isa only.
#pragma once

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

// F(4, 3) with points 0, ±√½, ±√2, ∞. The product of the squares is 1, so all entries stay near 1:
// rounding errors are 1.4 times smaller along each axis than with the usual 0, ±1, ±2, ∞
// (docs/accuracy.md), for the same operations.
template <class T>
struct Four {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 4, taps = 3, points = 6;
  static constexpr T a = T(0.70710678118654752440), b = T(1.41421356237309504880);
  static constexpr T na = T(-2.0 / 3), nb = T(1.0 / 6);  // 1 / N of the points ±a, ±b

  static CNNCORE_HD void input(const V* d, V* t) {
    const V odd_a = d[3] - T(2) * d[1], even_a = d[4] - T(2) * d[2];
    const V odd_b = d[3] - T(0.5) * d[1], even_b = d[4] - T(0.5) * d[2];
    t[0] = (d[0] + d[4]) - T(2.5) * d[2];
    t[1] = even_a + a * odd_a;
    t[2] = even_a - a * odd_a;
    t[3] = even_b + b * odd_b;
    t[4] = even_b - b * odd_b;
    t[5] = (d[1] + d[5]) - T(2.5) * d[3];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    const V even_a = p[1] + p[2], odd_a = p[1] - p[2], even_b = p[3] + p[4], odd_b = p[3] - p[4];
    y[0] = (p[0] + na * even_a) + nb * even_b;
    y[1] = (na * a) * odd_a + (nb * b) * odd_b;
    y[2] = (na / 2) * even_a + (nb * 2) * even_b;
    y[3] = (p[5] + (na / 2 * a) * odd_a) + (nb * 2 * b) * odd_b;
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    const V even_a = g[0] + T(0.5) * g[2], even_b = g[0] + T(2) * g[2];
    u[0] = g[0];
    u[1] = even_a + a * g[1];
    u[2] = even_a - a * g[1];
    u[3] = even_b + b * g[1];
    u[4] = even_b - b * g[1];
    u[5] = g[2];
  }
  // The transposes of output and weight, with 1 / N in the latter.
  static CNNCORE_HD void gradient(const V* y, V* t) {
    const V even_a = y[0] + T(0.5) * y[2], odd_a = y[1] + T(0.5) * y[3];
    const V even_b = y[0] + T(2) * y[2], odd_b = y[1] + T(2) * y[3];
    t[0] = y[0];
    t[1] = even_a + a * odd_a;
    t[2] = even_a - a * odd_a;
    t[3] = even_b + b * odd_b;
    t[4] = even_b - b * odd_b;
    t[5] = y[3];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    const V even_a = p[1] + p[2], even_b = p[3] + p[4];
    g[0] = (p[0] + na * even_a) + nb * even_b;
    g[1] = (na * a) * (p[1] - p[2]) + (nb * b) * (p[3] - p[4]);
    g[2] = (p[5] + (na / 2) * even_a) + (nb * 2) * even_b;
  }
};

// F(2, 3) with points 0, ±1, ∞.
template <class T>
struct Two {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 2, taps = 3, points = 4;

  static CNNCORE_HD void input(const V* d, V* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    y[0] = p[0] + T(0.5) * (p[1] + p[2]);
    y[1] = p[3] + T(0.5) * (p[1] - p[2]);
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    const V even = g[0] + g[2];
    u[0] = g[0];
    u[1] = even + g[1];
    u[2] = even - g[1];
    u[3] = g[2];
  }
  static CNNCORE_HD void gradient(const V* y, V* t) {
    t[0] = y[0];
    t[1] = y[0] + y[1];
    t[2] = y[0] - y[1];
    t[3] = y[1];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    const V even = T(0.5) * (p[1] + p[2]);
    g[0] = p[0] + even;
    g[1] = T(0.5) * (p[1] - p[2]);
    g[2] = even + p[3];
  }
};

// F(3, 2), points as in Two: its tiles are of four pixels, too.
template <class T>
struct Three {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 3, taps = 2, points = 4;

  static CNNCORE_HD void input(const V* d, V* t) { Two<T>::input(d, t); }
  static CNNCORE_HD void output(const V* p, V* y) {
    const V even = T(0.5) * (p[1] + p[2]);
    y[0] = p[0] + even;
    y[1] = T(0.5) * (p[1] - p[2]);
    y[2] = even + p[3];
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    u[0] = g[0];
    u[1] = g[0] + g[1];
    u[2] = g[0] - g[1];
    u[3] = g[1];
  }
};

// One of a form's transforms: `apply` takes `in` values to `out`.
template <class F>
struct InputAxis {
  using V = typename F::V;
  static constexpr int in = F::points, out = F::points, step = F::outputs;
  static CNNCORE_HD void apply(const V* d, V* t) { F::input(d, t); }
};

template <class F>
struct GradientAxis {
  using V = typename F::V;
  static constexpr int in = F::outputs, out = F::points, step = F::outputs;
  static CNNCORE_HD void apply(const V* y, V* t) { F::gradient(y, t); }
};

template <class F>
struct OutputAxis {
  using V = typename F::V;
  static constexpr int in = F::points, out = F::outputs;
  static CNNCORE_HD void apply(const V* t, V* y) { F::output(t, y); }
};

template <class F>
struct WeightAxis {
  using V = typename F::V;
  static constexpr int in = F::points, out = F::taps;
  static CNNCORE_HD void apply(const V* t, V* g) { F::weight_gradient(t, g); }
};

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
