// "im2col": the explicit column matrix, the algorithm to teach with and the oracle of the others.
//
// For one image and one group, with the windows of x as the columns of a matrix,
//   y = W cols,  cols = Wᵀ y (x: those columns added up in place),  gW = gy colsᵀ.
// The matrix is KH KW times as large as the input, and is written and read again.
#include <algorithm>

#include "cnncore/check.h"
#include "cpu/conv/kept.h"
#include "cpu/gemm.h"
#include "cpu/im2col.h"

namespace cnncore {
namespace {

// Calls f(input planes, output planes, group) for every image and group.
template <class Function>
void for_each_group(const ConvShape& s, Function f) {
  for (index_t n = 0; n < s.images; ++n)
    for (index_t g = 0; g < s.groups; ++g)
      f((n * s.channels + g * s.group_channels()) * s.height * s.width,
        (n * s.outputs + g * s.group_outputs()) * s.oh() * s.ow(), g);
}

template <class T>
void column_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    im2col(x + in, s.group_channels(), s.height, s.width, s.window, cols.data());
    for (index_t o = 0; o < s.group_outputs() && bias != nullptr; ++o)
      std::fill_n(y + out + o * pixels, pixels, bias[g * s.group_outputs() + o]);
    gemm(row_major(weight + g * s.group_outputs() * depth, s.group_outputs(), depth),
         row_major<T>(cols.data(), depth, pixels), y + out, pixels, bias != nullptr);
  });
}

template <class T>
void column_transpose(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    gemm(transposed(row_major(weight + g * s.group_outputs() * depth, s.group_outputs(), depth)),
         row_major(y + out, s.group_outputs(), pixels), cols.data(), pixels, false);
    col2im(cols.data(), s.group_channels(), s.height, s.width, s.window, x + in,
           bias != nullptr ? bias + g * s.group_channels() : nullptr, s.group_channels());
  });
}

template <class T>
void column_weight(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  const index_t depth = s.group_channels() * s.taps(), pixels = s.oh() * s.ow();
  Scratch<T> cols(checked_product(depth, pixels));
  std::fill_n(gweight, s.outputs * depth, T(0));
  for_each_group(s, [&](index_t in, index_t out, index_t g) {
    im2col(x + in, s.group_channels(), s.height, s.width, s.window, cols.data());
    gemm(row_major(gy + out, s.group_outputs(), pixels),
         transposed(row_major<T>(cols.data(), depth, pixels)),
         gweight + g * s.group_outputs() * depth, depth, true);
  });
}

template <class T>
class ColumnLayer final : public ConvLayer<T> {
 public:
  ColumnLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias)
      : s_(shape),
        direction_(direction),
        weight_(weight, shape.weight_size()),
        bias_(keep_bias(shape, direction, bias)) {}

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    if (direction_ == ConvDirection::output) {
      column_forward(s_, from, weight_.data(), bias_.data(), to);
      finish_all(finish, to, s_.output_size());
    } else {
      column_transpose(s_, from, weight_.data(), bias_.data(), to);
      finish_all(finish, to, s_.input_size());
    }
  }

  std::size_t bytes() const override { return weight_.bytes() + bias_.bytes(); }

 private:
  ConvShape s_;
  ConvDirection direction_;
  Kept<T> weight_, bias_;
};

}  // namespace

template <class T>
const ConvAlgorithm<T>& im2col_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "im2col", [](const ConvShape&, ConvDirection) { return true; },
      [](const ConvShape& s, ConvDirection direction, const T* weight,
         const T* bias) -> std::unique_ptr<ConvLayer<T>> {
        return std::make_unique<ColumnLayer<T>>(s, direction, weight, bias);
      },
      &column_weight<T>, &im2col_steps};
  return algorithm;
}

template const ConvAlgorithm<float>& im2col_algorithm();
template const ConvAlgorithm<double>& im2col_algorithm();

}  // namespace cnncore
