// "implicit_gemm": the matrix product of im2col without the matrix. Weights are packed into panels,
// pixels are found through tables of offsets (correlate.h); a transpose with a stride is one
// correlation for each phase of the stride. Where there are few pixels and many filters, the two
// factors change places (joined.h).
#include <vector>

#include "cpu/conv/correlate.h"
#include "cpu/conv/correlate_weight.h"
#include "cpu/conv/joined.h"
#include "cpu/conv/kept.h"
#include "cpu/conv/panels.h"
#include "cpu/gemm.h"

namespace cnncore {
namespace {

// Where a job writes: `offset` elements into the result, and into the residual.
template <class T>
void set_target(Correlation<T>& job, const Finish<T>& finish, T* result, index_t offset) {
  job.target = result + offset;
  job.finish = finish;
  if (finish.residual != nullptr) job.finish.residual = finish.residual + offset;
}

template <class T>
void implicit_forward(const ConvShape& s, const T* x, const T* panels, const T* bias,
                      const Finish<T>& finish, T* y) {
  const index_t outputs = s.group_outputs();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
  Correlation<T> job{};
  job.images = s.images;
  job.channels = s.group_channels();
  job.source_image_stride = s.channels * in;
  job.h = forward_taps(s.window.h);
  job.w = forward_taps(s.window.w);
  job.grid_h = s.oh();
  job.grid_w = s.ow();
  job.outputs = outputs;
  job.target_image_stride = s.outputs * out;
  job.target_channel_stride = out;
  job.target_row_stride = s.ow();
  job.target_column_stride = 1;
  std::vector<Correlation<T>> jobs;
  for (index_t g = 0; g < s.groups; ++g) {
    job.source = {x + g * s.group_channels() * in, s.height, s.width, in};
    job.panels = panels + g * (forward_panels_size<T>(s) / s.groups);
    job.bias = bias != nullptr ? bias + g * outputs : nullptr;
    set_target(job, finish, y, g * outputs * out);
    jobs.push_back(job);
  }
  correlate(jobs);
}

template <class T>
void implicit_transpose(const ConvShape& s, const T* y, const T* panels, const T* bias,
                        const Finish<T>& finish, T* x) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const index_t in = s.height * s.width, out = s.oh() * s.ow();
  const index_t channels = s.group_channels(), outputs = s.group_outputs();
  const std::vector<Phase> rows = phases_of(s.window.h, s.height);
  const std::vector<Phase> columns = phases_of(s.window.w, s.width);
  std::vector<Correlation<T>> jobs;
  for (index_t g = 0; g < s.groups; ++g) {
    const T* packed = panels + g * transpose_group_size<T>(s);
    for (const Phase& h : rows)
      for (const Phase& w : columns) {
        Correlation<T> job{};
        job.source = {y + g * outputs * out, s.oh(), s.ow(), out};
        job.images = s.images;
        job.channels = outputs;
        job.source_image_stride = s.outputs * out;
        job.h = AxisTaps(h.taps);
        job.w = AxisTaps(w.taps);
        job.grid_h = h.count;
        job.grid_w = w.count;
        job.panels = packed;
        job.outputs = channels;
        job.bias = bias != nullptr ? bias + g * channels : nullptr;
        set_target(job, finish, x, g * channels * in + h.first * s.width + w.first);
        job.target_image_stride = s.channels * in;
        job.target_channel_stride = in;
        job.target_row_stride = s.window.h.stride * s.width;
        job.target_column_stride = s.window.w.stride;
        packed += packed_size(kernels, job.depth(), channels);
        jobs.push_back(std::move(job));
      }
  }
  correlate(jobs);
}

template <class T>
class ImplicitLayer final : public ConvLayer<T> {
 public:
  ImplicitLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias)
      : s_(shape),
        direction_(direction),
        panels_(direction == ConvDirection::output ? forward_panels_size<T>(shape)
                                                   : transpose_panels_size<T>(shape)),
        bias_(keep_bias(shape, direction, bias)) {
    (direction == ConvDirection::output ? pack_forward<T> : pack_transpose<T>)(s_, weight,
                                                                               panels_.data());
  }

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    (direction_ == ConvDirection::output
         ? implicit_forward<T>
         : implicit_transpose<T>)(s_, from, panels_.data(), bias_.data(), finish, to);
  }

  std::size_t bytes() const override { return panels_.bytes() + bias_.bytes(); }

 private:
  ConvShape s_;
  ConvDirection direction_;
  Kept<T> panels_, bias_;
};

// Weights as the caller has them, or a copy of them.
template <class T>
class JoinedLayer final : public ConvLayer<T> {
 public:
  JoinedLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias,
              bool borrow)
      : s_(shape),
        direction_(direction),
        kept_(borrow ? nullptr : weight, shape.weight_size()),
        weight_(borrow ? weight : kept_.data()),
        bias_(keep_bias(shape, direction, bias)) {}

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    const Window1d once{1, 1, 0, 0, 1};
    const index_t taps = s_.taps();
    JoinedCorrelation<T> job{};
    job.source = from;
    job.images = s_.images;
    job.grid_h = s_.oh();
    job.grid_w = s_.ow();
    if (direction_ == ConvDirection::output) {
      job.channels = s_.channels;
      job.height = s_.height;
      job.width = s_.width;
      job.h = forward_taps(s_.window.h);
      job.w = forward_taps(s_.window.w);
      job.weights = row_major(weight_, s_.outputs, s_.channels * taps);
      job.spread_h = job.spread_w = once;
      job.target_h = s_.oh();
      job.target_w = s_.ow();
    } else {
      job.channels = s_.outputs;
      job.height = s_.oh();
      job.width = s_.ow();
      job.h = job.w = forward_taps(once);
      job.weights = transposed(row_major(weight_, s_.outputs, s_.channels * taps));
      job.spread_h = s_.window.h;
      job.spread_w = s_.window.w;
      job.target_h = s_.height;
      job.target_w = s_.width;
    }
    job.bias = bias_.data();
    job.finish = finish;
    job.target = to;
    correlate_joined(job);
  }

  std::size_t bytes() const override { return kept_.bytes() + bias_.bytes(); }

 private:
  ConvShape s_;
  ConvDirection direction_;
  Kept<T> kept_;
  const T* weight_;
  Kept<T> bias_;
};

template <class T, bool kOnce>
std::unique_ptr<ConvLayer<T>> prepare(const ConvShape& s, ConvDirection direction, const T* weight,
                                      const T* bias) {
  if (implicit_gemm_joins(s, direction, tile_kernels<T>().width))
    return std::make_unique<JoinedLayer<T>>(s, direction, weight, bias, kOnce);
  return std::make_unique<ImplicitLayer<T>>(s, direction, weight, bias);
}

}  // namespace

template <class T>
const ConvAlgorithm<T>& implicit_gemm_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "implicit_gemm",      [](const ConvShape&, ConvDirection) { return true; },
      &prepare<T, false>,   &correlate_weight<T>,
      &implicit_gemm_steps, &prepare<T, true>};
  return algorithm;
}

template const ConvAlgorithm<float>& implicit_gemm_algorithm();
template const ConvAlgorithm<double>& implicit_gemm_algorithm();

}  // namespace cnncore
