// The transpose of a 1x1 convolution with a stride: only every stride-th pixel of every stride-th
// row has a product, the others are the bias.
//
// So the small maps are multiplied as if there were no stride, by whichever algorithm is best for
// that, and a second pass writes the large ones in order: rows interleaved with the bias, and rows
// of nothing else. By phases, as any other transpose with a stride, the rows of the product would
// be as short as the small maps', and written in pieces.
#include "cpu/conv/strided_transpose.h"

#include <algorithm>

#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/conv/kept.h"
#include "cpu/conv/select.h"
#include "cpu/plane_tile.h"

namespace cnncore {
namespace {

template <class T>
class StridedTranspose final : public ConvLayer<T> {
 public:
  StridedTranspose(const ConvShape& s, const T* weight, const T* bias, bool once)
      : s_(s), kernels_(plane_tile_kernels<T>()), bias_(bias, s.channels) {
    const ConvShape small = without_stride(s);
    const ConvAlgorithm<T>& best = select_algorithm<T>("auto", small, ConvDirection::input);
    const auto prepare = once && best.prepare_once != nullptr ? best.prepare_once : best.prepare;
    product_ = prepare(small, ConvDirection::input, weight, bias);
  }

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    const index_t plane = s_.height * s_.width, small = s_.oh() * s_.ow();
    Scratch<T> products(checked_product(s_.images, s_.channels, small));
    product_->run(from, Finish<T>{}, products.data());
    parallel_for(s_.images * s_.channels, grain_for(plane), [&](index_t begin, index_t end) {
      Scratch<T> filling(s_.ow());
      for (index_t i = begin; i < end; ++i) {
        const T bias = bias_.data() != nullptr ? bias_.data()[i % s_.channels] : T(0);
        std::fill_n(filling.data(), s_.ow(), bias);
        spread(products.data() + i * small, bias, filling.data(), to + i * plane);
        if (finish.needed())
          finish_run(finish, finish.residual != nullptr ? finish.residual + i * plane : nullptr,
                     to + i * plane, plane);
      }
    });
  }

  std::size_t bytes() const override { return product_->bytes() + bias_.bytes(); }

 private:
  // One plane; `filling` is a row of the bias.
  void spread(const T* products, T bias, const T* filling, T* to) const {
    const index_t step = s_.window.w.stride, width = s_.width;
    for (index_t h = 0; h < s_.height; ++h, to += width) {
      if (h % s_.window.h.stride != 0 || h / s_.window.h.stride >= s_.oh()) {
        std::fill_n(to, width, bias);
        continue;
      }
      // Pairs (product, bias); the last product may be without one.
      const index_t pairs = step == 2 ? min_of(s_.ow(), width / 2) : 0;
      kernels_.interleave(products, filling, pairs, to);
      std::fill_n(to + 2 * pairs, width - 2 * pairs, bias);
      for (index_t v = pairs; v < s_.ow(); ++v) to[v * step] = products[v];
      products += s_.ow();
    }
  }

  ConvShape s_;
  const PlaneTileKernels<T>& kernels_;
  std::unique_ptr<ConvLayer<T>> product_;
  Kept<T> bias_;
};

}  // namespace

bool is_strided_transpose(const ConvShape& s, ConvDirection direction) {
  const auto inside = [](const Window1d& w, index_t size) {
    return w.before == 0 && (w.output_size(size) - 1) * w.stride < size;
  };
  return direction == ConvDirection::input && s.taps() == 1 &&
         s.window.h.stride * s.window.w.stride > 1 && inside(s.window.h, s.height) &&
         inside(s.window.w, s.width);
}

ConvShape without_stride(const ConvShape& s) {
  ConvShape small = s;
  small.height = s.oh();
  small.width = s.ow();
  small.window.h = small.window.w = Window1d{1, 1, 0, 0, 1};
  return small;
}

// Written and read once, then written in rows; memory is slower than the units.
double strided_transpose_steps(const ConvShape& s, index_t width) {
  const index_t small = s.images * s.channels * s.oh() * s.ow();
  return 10 * static_cast<double>(small + s.input_size()) / static_cast<double>(width);
}

template <class T>
std::unique_ptr<ConvLayer<T>> strided_transpose(const ConvShape& shape, const T* weight,
                                                const T* bias, bool once) {
  return std::make_unique<StridedTranspose<T>>(shape, weight, bias, once);
}

template std::unique_ptr<ConvLayer<float>> strided_transpose(const ConvShape&, const float*,
                                                             const float*, bool);
template std::unique_ptr<ConvLayer<double>> strided_transpose(const ConvShape&, const double*,
                                                              const double*, bool);

}  // namespace cnncore
