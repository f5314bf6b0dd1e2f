// Winograd's minimal filtering along one axis: the forms F(4, 3), F(2, 3), F(4, 2), F(3, 2), F(m,
// 1).
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
struct F43 {
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
struct F23 {
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

// F(3, 2), points as in F(2, 3): its tiles are of four pixels, too.
template <class T>
struct F32 {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 3, taps = 2, points = 4;

  static CNNCORE_HD void input(const V* d, V* t) { F23<T>::input(d, t); }
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
  static CNNCORE_HD void gradient(const V* y, V* t) {
    const V even = y[0] + y[2];
    t[0] = y[0];
    t[1] = even + y[1];
    t[2] = even - y[1];
    t[3] = y[2];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    g[0] = p[0] + T(0.5) * (p[1] + p[2]);
    g[1] = T(0.5) * (p[1] - p[2]) + p[3];
  }
};

// F(4, 2) with points ±a, ±b, ∞. Without zero the transforms are made of even and odd halves; a
// search for small errors found a = 2/5, b = 5/4 (docs/accuracy.md).
template <class T>
struct F42 {
  using V = typename Simd<T>::vector;
  static constexpr int outputs = 4, taps = 2, points = 5;
  static constexpr T a = T(0.4), b = T(1.25), aa = T(0.16), bb = T(1.5625);
  static constexpr T na = T(1 / (0.8 * (0.16 - 1.5625)));  // 1 / N of a; of -a: the negative
  static constexpr T nb = T(1 / (2.5 * (1.5625 - 0.16)));

  static CNNCORE_HD void input(const V* d, V* t) {
    const V odd_a = d[3] - bb * d[1], even_a = d[2] - bb * d[0];
    const V odd_b = d[3] - aa * d[1], even_b = d[2] - aa * d[0];
    t[0] = odd_a + a * even_a;
    t[1] = odd_a - a * even_a;
    t[2] = odd_b + b * even_b;
    t[3] = odd_b - b * even_b;
    t[4] = (d[4] + (aa * bb) * d[0]) - (aa + bb) * d[2];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    const V even_a = p[0] - p[1], odd_a = p[0] + p[1], even_b = p[2] - p[3], odd_b = p[2] + p[3];
    y[0] = na * even_a + nb * even_b;
    y[1] = (na * a) * odd_a + (nb * b) * odd_b;
    y[2] = (na * aa) * even_a + (nb * bb) * even_b;
    y[3] = (p[4] + (na * aa * a) * odd_a) + (nb * bb * b) * odd_b;
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
    u[0] = g[0] + a * g[1];
    u[1] = g[0] - a * g[1];
    u[2] = g[0] + b * g[1];
    u[3] = g[0] - b * g[1];
    u[4] = g[1];
  }
  static CNNCORE_HD void gradient(const V* y, V* t) {
    const V even_a = y[0] + aa * y[2], odd_a = y[1] + aa * y[3];
    const V even_b = y[0] + bb * y[2], odd_b = y[1] + bb * y[3];
    t[0] = even_a + a * odd_a;
    t[1] = even_a - a * odd_a;
    t[2] = even_b + b * odd_b;
    t[3] = even_b - b * odd_b;
    t[4] = y[3];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    g[0] = na * (p[0] - p[1]) + nb * (p[2] - p[3]);
    g[1] = (p[4] + (na * a) * (p[0] + p[1])) + (nb * b) * (p[2] + p[3]);
  }
};

// F(m, 1) at the finite points of F(m, 2): what that is where its second tap is zero, and with it
// the product at infinity. Sums of both may be taken before their common `output`.
template <class F>
struct OneTap {
  using V = typename F::V;
  static constexpr int outputs = F::outputs, taps = 1, points = F::points - 1;

  static CNNCORE_HD void input(const V* d, V* t) {
    V pixels[F::points] = {}, all[F::points];
#pragma GCC unroll 6
    for (int i = 0; i < points; ++i) pixels[i] = d[i];
    F::input(pixels, all);
#pragma GCC unroll 6
    for (int i = 0; i < points; ++i) t[i] = all[i];
  }
  static CNNCORE_HD void output(const V* p, V* y) {
    V all[F::points] = {};
#pragma GCC unroll 6
    for (int i = 0; i < points; ++i) all[i] = p[i];
    F::output(all, y);
  }
  static CNNCORE_HD void weight(const V* g, V* u) {
#pragma GCC unroll 6
    for (int i = 0; i < points; ++i) u[i] = g[0];
  }
  static CNNCORE_HD void weight_gradient(const V* p, V* g) {
    V all[F::points] = {}, both[2];
#pragma GCC unroll 6
    for (int i = 0; i < points; ++i) all[i] = p[i];
    F::weight_gradient(all, both);
    g[0] = both[0];
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
