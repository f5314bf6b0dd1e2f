// "depthwise": convolutions with one or two channels a group: too few products per pixel for a
// matrix kernel. Planes are read and written once, where they lie (isa/depthwise.cpp).
//
// Work is split over planes of the result, and over bands of their rows where planes are few; a
// weight gradient over filters, and over bands of rows of gy whose sums are then added in order.
#include "cpu/conv/depthwise.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/conv/kept.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;           // as many tasks as this where the shape allows it
constexpr index_t kBandWork = 16384;    // products of a band at least
constexpr index_t kChunkWork = 131072;  // products worth handing to another thread
constexpr index_t kCached = 4096;       // results that are finished while the cache holds them

// Rows 0..rows of `planes` planes in bands: depends on shapes only.
struct Bands {
  Bands(index_t planes, index_t rows, index_t row_work) {
    const index_t most = max_of(1, rows * row_work / kBandWork);
    count = max_of(1, min_of(min_of(rows, most), ceil_div(kTasks, max_of(1, planes))));
    size = ceil_div(rows, count);
    count = max_of(1, ceil_div(rows, max_of(1, size)));
  }
  index_t count, size;
};

template <class T>
DepthwisePlane<T> plane_of(const ConvShape& s) {
  return {s.window, s.height, s.width, s.oh(), s.ow(), 0, 0, nullptr, nullptr, false};
}

// The window and the plane sizes of the forward convolution that a transpose with stride 1 is; its
// taps are reversed.
bool is_reversible(const Window2d& window) {
  return window.h.stride == 1 && window.w.stride == 1;
}

template <class T>
DepthwisePlane<T> reversed(const DepthwisePlane<T>& p) {
  DepthwisePlane<T> r = p;
  r.height = p.oh;
  r.width = p.ow;
  r.oh = p.height;
  r.ow = p.width;
  for (Window1d* axis : {&r.window.h, &r.window.w})
    axis->before = (axis->kernel - 1) * axis->dilation - axis->before;
  return r;
}

// One direction: `to` has `planes` planes an image, each the sum of `sources` planes of `from`.
template <class T>
class DepthwiseLayer final : public ConvLayer<T> {
 public:
  DepthwiseLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias)
      : s_(shape),
        forward_(direction == ConvDirection::output),
        weight_(weight, shape.weight_size()),
        bias_(keep_bias(shape, direction, bias)),
        plane_(plane_of<T>(shape)),
        source_size_(forward_ ? shape.height * shape.width : shape.oh() * shape.ow()) {
    const bool reverse = !forward_ && is_reversible(shape.window);
    if (reverse) plane_ = reversed(plane_);
    const DepthwiseKernels<T> kernels = CNNCORE_SELECT_ISA(depthwise_kernels<T>)(plane_);
    run_ = forward_ || reverse ? kernels.forward : kernels.transpose;
    if (!reverse) return;
    for (index_t f = 0; f * s_.taps() < s_.weight_size(); ++f)
      std::reverse(weight_.data() + f * s_.taps(), weight_.data() + (f + 1) * s_.taps());
  }

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    const index_t planes = forward_ ? s_.outputs : s_.channels;
    const index_t rows = forward_ ? s_.oh() : s_.height, columns = forward_ ? s_.ow() : s_.width;
    if (s_.images * planes * rows * columns == 0) return;
    const index_t row_work = max_of(1, s_.oh() * s_.ow() * s_.taps() / rows);
    const Bands bands(s_.images * planes, rows, row_work);
    // Planes for the kernel to do in one go: filters, too, must follow each other.
    const bool single = bands.count == 1 && s_.channels == s_.outputs && s_.group_channels() == 1;
    const index_t most = !single ? 1 : finish.needed() ? ceil_div(kCached, rows * columns) : planes;
    parallel_for(s_.images * planes * bands.count, max_of(1, kChunkWork / (bands.size * row_work)),
                 [&](index_t begin, index_t end) {
                   DepthwisePlane<T> plane = plane_;
                   for (index_t task = begin, count = 1; task < end; task += count) {
                     const index_t band = task % bands.count, index = task / bands.count;
                     const index_t n = index / planes, c = index % planes;
                     count = min_of(most, min_of(end - task, planes - c));
                     plane.first = band * bands.size;
                     plane.last = min_of(rows, plane.first + bands.size);
                     sum_sources(plane, count, from, n, c, to + index * rows * columns);
                     if (!finish.needed()) continue;
                     const index_t offset = (index * rows + plane.first) * columns;
                     finish_run(finish,
                                finish.residual != nullptr ? finish.residual + offset : nullptr,
                                to + offset, count * (plane.last - plane.first) * columns);
                   }
                 });
  }

  std::size_t bytes() const override { return weight_.bytes() + bias_.bytes(); }

 private:
  // Plane c of image n of the result and those after it, the rows that `plane` says.
  void sum_sources(DepthwisePlane<T>& plane, index_t count, const T* from, index_t n, index_t c,
                   T* to) const {
    const index_t channels = s_.group_channels(), outputs = s_.group_outputs();
    const index_t group = c / (forward_ ? outputs : channels);
    const index_t sources = forward_ ? channels : outputs;
    plane.bias = bias_.data() != nullptr ? bias_.data() + c : nullptr;
    for (index_t k = 0; k < sources; ++k) {
      const index_t source = group * sources + k;
      const index_t filter = forward_ ? c * channels + k : source * channels + c % channels;
      plane.weight = weight_.data() + filter * s_.taps();
      plane.accumulate = k > 0;
      run_(plane, count, from + (n * s_.groups * sources + source) * source_size_, to);
    }
  }

  ConvShape s_;
  bool forward_;
  Kept<T> weight_, bias_;
  DepthwisePlane<T> plane_;
  index_t source_size_;
  void (*run_)(DepthwisePlane<T>, index_t, const T*, T*);
};

template <class T>
void depthwise_weight(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  const index_t in = s.height * s.width, out = s.oh() * s.ow(), taps = s.taps();
  const index_t filters = s.outputs * s.group_channels();
  if (s.images * out == 0) std::fill_n(gweight, s.weight_size(), T(0));
  if (s.images * out * filters == 0) return;
  const auto run = CNNCORE_SELECT_ISA(depthwise_kernels<T>)(plane_of<T>(s)).weight;
  const index_t row_work = s.images * s.ow() * taps;
  const Bands bands(filters, s.oh(), row_work);
  Scratch<T> parts(bands.count > 1 ? bands.count * filters * taps : 1);
  T* const sums = bands.count > 1 ? parts.data() : gweight;
  const index_t most = s.channels == s.outputs && s.group_channels() == 1 ? filters : 1;
  parallel_for(filters * bands.count, max_of(1, kChunkWork / (bands.size * row_work)),
               [&](index_t begin, index_t end) {
                 DepthwisePlane<T> plane = plane_of<T>(s);
                 const DepthwiseSum<T> all{s.images, s.channels * in, s.outputs * out};
                 for (index_t task = begin, count = 1; task < end; task += count) {
                   const index_t filter = task % filters, band = task / filters;
                   const index_t o = filter / s.group_channels(), c = filter % s.group_channels();
                   const index_t channel = o / s.group_outputs() * s.group_channels() + c;
                   count = min_of(most, min_of(end - task, filters - filter));
                   plane.first = band * bands.size;
                   plane.last = min_of(s.oh(), plane.first + bands.size);
                   run(plane, all, count, x + channel * in, gy + o * out, sums + task * taps);
                 }
               });
  if (bands.count == 1) return;
  std::copy_n(sums, filters * taps, gweight);
  for (index_t i = filters * taps; i < bands.count * filters * taps; ++i)
    gweight[i % (filters * taps)] += sums[i];
}

bool serves(const ConvShape& s, ConvDirection) {
  const index_t pairs = s.group_channels() * s.group_outputs();
  return pairs == 1 || pairs == 2;
}

}  // namespace

template <class T>
const ConvAlgorithm<T>& depthwise_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "depthwise", &serves,
      [](const ConvShape& s, ConvDirection direction, const T* weight,
         const T* bias) -> std::unique_ptr<ConvLayer<T>> {
        return std::make_unique<DepthwiseLayer<T>>(s, direction, weight, bias);
      },
      &depthwise_weight<T>, &depthwise_steps};
  return algorithm;
}

template const ConvAlgorithm<float>& depthwise_algorithm();
template const ConvAlgorithm<double>& depthwise_algorithm();

}  // namespace cnncore
