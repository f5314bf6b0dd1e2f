// Transposed convolutions with very large strides and kernels (64x64 with stride 32 in FCN-32s).
//
// With h + before = s R + i and w + before = s' B + j (i < s, j < s'), the result is
//
//   x[c, h, w] = sum over o, a, b of weight[o, c, i + a s, j + b s'] * y[o, R - a, B - b]
//
// that is, for every (c, i) one matrix product: rows are the places (n, R, B), of which y has few;
// the sum runs over (o, a, b), 2 x 2 x O for a kernel of twice the stride; columns are the s'
// values of j, which lie side by side in the weights and, again, in the result. So vectors run
// along the kernel's width and each weight is read once, in place, and used for all places.
//
// By phases of single pixels ("direct" otherwise) the same layer would be s s' tiny correlations.
#include "cpu/conv/wide_transpose.h"

#include <algorithm>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/conv/kept.h"
#include "cpu/tile.h"

namespace cnncore {
namespace {

constexpr index_t kPlaces = 448;  // rows of the product computed before they are written

// One axis: places 0..count, each with `taps` values of y, taps - 1 of them before it.
struct WideAxis {
  WideAxis(const Window1d& window, index_t size, index_t source)
      : stride(window.stride),
        kernel(window.kernel),
        before(window.before),
        taps(ceil_div(window.kernel, window.stride)),
        count((size - 1 + window.before) / window.stride + 1),
        source_size(source) {}

  index_t padded() const { return count + taps - 1; }

  index_t stride, kernel, before, taps, count, source_size;
};

template <class T>
class WideTranspose final : public ConvLayer<T> {
 public:
  WideTranspose(const ConvShape& s, const T* weight, const T* bias, bool once)
      : s_(s),
        h_(s.window.h, s.height, s.oh()),
        w_(s.window.w, s.width, s.ow()),
        kept_(once ? nullptr : weight, s.weight_size()),
        weight_(once ? weight : kept_.data()),
        bias_(bias, s.channels) {}

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    if (s_.input_size() == 0) return;
    const TileKernels<T>& kernels = tile_kernels<T>();
    const index_t plane = h_.padded() * w_.padded(), planes = s_.images * s_.outputs;
    const index_t outputs = s_.group_outputs(), depth = outputs * h_.taps * w_.taps;
    Scratch<T> padded(checked_product(planes, plane));
    parallel_for(planes, grain_for(plane), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i)
        pad(from + i * s_.oh() * s_.ow(), padded.data() + i * plane);
    });
    std::vector<index_t> steps;
    for (index_t o = 0; o < outputs; ++o)
      for (index_t a = h_.taps; a-- > 0;)
        for (index_t b = w_.taps; b-- > 0;) steps.push_back(o * plane + a * w_.padded() + b);
    std::vector<index_t> places;
    for (index_t n = 0; n < s_.images; ++n)
      for (index_t r = 0; r < h_.count; ++r)
        for (index_t b = 0; b < w_.count; ++b)
          places.push_back(n * s_.outputs * plane + r * w_.padded() + b);
    const auto rows = static_cast<index_t>(places.size());
    parallel_for(s_.channels * h_.stride, grain_for(rows * depth * w_.stride / 8),
                 [&](index_t begin, index_t end) {
                   Scratch<T> panel(depth * kernels.panel_columns());
                   Scratch<T> tile(min_of(rows, kPlaces) * kernels.panel_columns());
                   for (index_t task = begin; task < end; ++task) {
                     const index_t c = task / h_.stride, i = task % h_.stride;
                     const index_t group = c / s_.group_channels();
                     for (index_t p = 0; p < kernels.panels(w_.stride); ++p) {
                       const index_t lanes = kernels.lanes(p, w_.stride);
                       const index_t j = p * kernels.panel_columns();
                       pack(c, i, j, lanes, panel.data());
                       for (index_t first = 0; first < rows; first += kPlaces) {
                         const index_t count = min_of(kPlaces, rows - first);
                         run_tiles(kernels,
                                   TileArgs<T>{padded.data() + group * outputs * plane,
                                               places.data() + first, steps.data(), depth,
                                               panel.data(), tile.data(), lanes, false},
                                   count, lanes);
                         for (index_t m = 0; m < count; ++m)
                           write(first + m, c, i, j, min_of(lanes, w_.stride - j),
                                 tile.data() + m * lanes, finish, to);
                       }
                     }
                   }
                 });
  }

  std::size_t bytes() const override { return kept_.bytes() + bias_.bytes(); }

 private:
  // y with taps - 1 zeros before it, and as many after it as there are places beyond its end.
  void pad(const T* from, T* to) const {
    const index_t columns = min_of(w_.source_size, w_.count);
    std::fill_n(to, h_.padded() * w_.padded(), T(0));
    for (index_t r = 0; r < min_of(h_.source_size, h_.count); ++r)
      std::copy_n(from + r * w_.source_size, columns,
                  to + (r + h_.taps - 1) * w_.padded() + w_.taps - 1);
  }

  // weight[o, c, i + a s, j + b s' ...] for all (o, a, b): lanes beyond the stride or the kernel
  // are zero.
  void pack(index_t c, index_t i, index_t j, index_t lanes, T* panel) const {
    const index_t channels = s_.group_channels(), group = c / channels;
    for (index_t o = 0; o < s_.group_outputs(); ++o) {
      const index_t filter = (group * s_.group_outputs() + o) * channels + c % channels;
      for (index_t a = 0; a < h_.taps; ++a)
        for (index_t b = 0; b < w_.taps; ++b, panel += lanes) {
          const index_t row = i + a * h_.stride, column = j + b * w_.stride;
          const index_t count =
              row < h_.kernel ? max_of(0, min_of(min_of(lanes, w_.stride - j), w_.kernel - column))
                              : 0;
          const T* const from = weight_ + (filter * h_.kernel + row) * w_.kernel + column;
          for (index_t k = 0; k < count; ++k) panel[k] = from[k];
          for (index_t k = count; k < lanes; ++k) panel[k] = T(0);
        }
    }
  }

  // One row of the product: `count` neighbours in a row of the result, as far as it reaches.
  void write(index_t place, index_t c, index_t i, index_t j, index_t count, const T* tile,
             const Finish<T>& finish, T* to) const {
    const index_t b = place % w_.count, r = place / w_.count % h_.count;
    const index_t n = place / w_.count / h_.count;
    const index_t row = r * h_.stride + i - h_.before, column = b * w_.stride + j - w_.before;
    const index_t first = max_of(0, -column), last = min_of(count, s_.width - column);
    if (row < 0 || row >= s_.height || first >= last) return;
    const index_t offset = ((n * s_.channels + c) * s_.height + row) * s_.width + column + first;
    const T bias = bias_.data() != nullptr ? bias_.data()[c] : T(0);
    T* const target = to + offset;
    for (index_t k = 0; k < last - first; ++k) target[k] = tile[first + k] + bias;
    if (finish.needed())
      finish_run(finish, finish.residual != nullptr ? finish.residual + offset : nullptr, target,
                 last - first);
  }

  ConvShape s_;
  WideAxis h_, w_;
  Kept<T> kept_;
  const T* weight_;
  Kept<T> bias_;
};

}  // namespace

bool is_wide_transpose(const ConvShape& s, ConvDirection direction, index_t width) {
  return direction == ConvDirection::input && s.window.w.stride >= width && s.window.w.stride > 1 &&
         s.window.h.dilation == 1 && s.window.w.dilation == 1;
}

template <class T>
std::unique_ptr<ConvLayer<T>> wide_transpose(const ConvShape& shape, const T* weight, const T* bias,
                                             bool once) {
  return std::make_unique<WideTranspose<T>>(shape, weight, bias, once);
}

template std::unique_ptr<ConvLayer<float>> wide_transpose(const ConvShape&, const float*,
                                                          const float*, bool);
template std::unique_ptr<ConvLayer<double>> wide_transpose(const ConvShape&, const double*,
                                                           const double*, bool);

}  // namespace cnncore
