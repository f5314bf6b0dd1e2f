// The convolution family and matrix products of another processor against their definitions: every
// algorithm, in all three directions, in float32 and float64. For machines where Python's tests
// cannot run, such as an emulated one; those remain the thorough ones.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cpu/conv/conv2d.h"
#include "cpu/conv/select.h"
#include "cpu/gemm.h"

namespace cnncore {
namespace {

int wrong = 0;

template <class T>
std::vector<T> normal(index_t count) {
  static std::mt19937 generator(0);
  std::normal_distribution<double> distribution;
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(distribution(generator));
  return values;
}

// Largest deviation as a share of the largest value.
template <class T>
double deviation(const std::vector<T>& got, const std::vector<double>& wanted) {
  double most = 0, largest = 1e-300;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(got[i]) - wanted[i]);
    most = difference <= most ? most : difference;  // NaN counts
    largest = std::fmax(largest, std::fabs(wanted[i]));
  }
  return most / largest;
}

template <class T>
void judge(const std::string& what, double error) {
  const bool good = error < (sizeof(T) == 4 ? 2e-5 : 1e-12);
  if (!good) ++wrong;
  std::printf("%-5s %-8s %.1e  %s\n", good ? "ok" : "WRONG", sizeof(T) == 4 ? "float32" : "float64",
              error, what.c_str());
}

// y, gx and gweight, one tap at a time.
template <class T>
struct Definition {
  std::vector<double> y, gx, gweight;

  Definition(const ConvShape& s, const std::vector<T>& x, const std::vector<T>& weight,
             const std::vector<T>& gy)
      : y(static_cast<std::size_t>(s.output_size())),
        gx(static_cast<std::size_t>(s.input_size())),
        gweight(static_cast<std::size_t>(s.weight_size())) {
    const Window1d &h = s.window.h, &w = s.window.w;
    for (index_t n = 0; n < s.images; ++n)
      for (index_t o = 0; o < s.outputs; ++o)
        for (index_t c = 0; c < s.group_channels(); ++c)
          for (index_t u = 0; u < s.oh(); ++u)
            for (index_t v = 0; v < s.ow(); ++v)
              for (index_t i = 0; i < h.kernel; ++i)
                for (index_t j = 0; j < w.kernel; ++j) {
                  const index_t row = h.input(u, i), column = w.input(v, j);
                  if (row < 0 || column < 0 || row >= s.height || column >= s.width) continue;
                  const index_t channel = o / s.group_outputs() * s.group_channels() + c;
                  const auto at_x = static_cast<std::size_t>(
                      ((n * s.channels + channel) * s.height + row) * s.width + column);
                  const auto at_w = static_cast<std::size_t>(
                      ((o * s.group_channels() + c) * h.kernel + i) * w.kernel + j);
                  const auto at_y =
                      static_cast<std::size_t>(((n * s.outputs + o) * s.oh() + u) * s.ow() + v);
                  y[at_y] += static_cast<double>(x[at_x]) * static_cast<double>(weight[at_w]);
                  gx[at_x] += static_cast<double>(gy[at_y]) * static_cast<double>(weight[at_w]);
                  gweight[at_w] += static_cast<double>(gy[at_y]) * static_cast<double>(x[at_x]);
                }
  }
};

template <class T>
void check_layer(const std::string& name, const ConvShape& s) {
  const auto x = normal<T>(s.input_size()), weight = normal<T>(s.weight_size());
  const auto gy = normal<T>(s.output_size());
  const Definition<T> wanted(s, x, weight, gy);
  for (const ConvEstimate& one : conv_estimates<T>(s, ConvDirection::output)) {
    std::vector<T> got(wanted.y.size());
    conv2d<T>(s, x.data(), weight.data(), nullptr, {}, got.data(), one.name);
    judge<T>(name + " " + one.name, deviation(got, wanted.y));
  }
  for (const ConvEstimate& one : conv_estimates<T>(s, ConvDirection::input)) {
    std::vector<T> got(wanted.gx.size());
    conv_transpose2d<T>(s, gy.data(), weight.data(), nullptr, {}, got.data(), one.name);
    judge<T>(name + " " + one.name + ", input gradient", deviation(got, wanted.gx));
  }
  for (const ConvEstimate& one : conv_estimates<T>(s, ConvDirection::weight)) {
    std::vector<T> got(wanted.gweight.size());
    conv2d_weight<T>(s, x.data(), gy.data(), got.data(), one.name);
    judge<T>(name + " " + one.name + ", weight gradient", deviation(got, wanted.gweight));
  }
}

template <class T>
void check_product(index_t m, index_t n, index_t depth) {
  const auto a = normal<T>(m * depth), b = normal<T>(depth * n);
  std::vector<double> wanted(static_cast<std::size_t>(m * n));
  for (index_t i = 0; i < m; ++i)
    for (index_t k = 0; k < depth; ++k)
      for (index_t j = 0; j < n; ++j)
        wanted[static_cast<std::size_t>(i * n + j)] +=
            static_cast<double>(a[static_cast<std::size_t>(i * depth + k)]) *
            static_cast<double>(b[static_cast<std::size_t>(k * n + j)]);
  std::vector<T> got(wanted.size());
  gemm<T>(row_major(a.data(), m, depth), row_major(b.data(), depth, n), got.data(), n, false);
  judge<T>("product of " + std::to_string(m) + "x" + std::to_string(depth) + " and " +
               std::to_string(depth) + "x" + std::to_string(n),
           deviation(got, wanted));
}

ConvShape layer(index_t images, index_t channels, index_t height, index_t width, index_t outputs,
                index_t groups, index_t kernel, index_t stride, index_t padding,
                index_t dilation = 1) {
  const Window1d window{kernel, stride, padding, padding, dilation};
  return {images, channels, height, width, outputs, groups, {window, window}};
}

template <class T>
void check() {
  check_layer<T>("3x3", layer(2, 5, 9, 11, 7, 1, 3, 1, 1));
  check_layer<T>("3x3 s2", layer(1, 33, 14, 14, 20, 1, 3, 2, 1));
  check_layer<T>("3x3 dilated, grouped", layer(1, 8, 16, 16, 8, 4, 3, 1, 2, 2));
  check_layer<T>("1x1", layer(2, 20, 8, 14, 17, 1, 1, 1, 0));
  check_layer<T>("1x1 s2", layer(2, 20, 15, 14, 17, 1, 1, 2, 0));
  check_layer<T>("2x2 s2", layer(1, 8, 16, 16, 6, 1, 2, 2, 0));
  check_layer<T>("4x4 s2", layer(1, 16, 12, 12, 8, 1, 4, 2, 1));
  check_layer<T>("7x7 s2", layer(1, 3, 37, 40, 16, 1, 7, 2, 3));
  check_layer<T>("40x40 s20", layer(1, 2, 70, 70, 3, 1, 40, 20, 5));
  check_layer<T>("depthwise 3x3", layer(2, 12, 20, 20, 12, 12, 3, 1, 1));
  check_layer<T>("depthwise 3x3 s2", layer(2, 12, 21, 20, 12, 12, 3, 2, 1));
  check_layer<T>("depthwise 5x5", layer(1, 4, 12, 12, 4, 4, 5, 1, 2));
  check_product<T>(70, 90, 300);
  check_product<T>(3, 200, 64);
  check_product<T>(200, 5, 64);
}

}  // namespace
}  // namespace cnncore

int main() {
  cnncore::check<float>();
  cnncore::check<double>();
  std::printf("%d wrong\n", cnncore::wrong);
  return cnncore::wrong != 0;
}
