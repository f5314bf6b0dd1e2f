#include "cpu/blocked/convolution.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cnncore/check.h"
#include "cpu/blocked/bands.h"
#include "cpu/blocked/job.h"
#include "cpu/conv/panels.h"
#include "cpu/conv/select.h"
#include "cpu/gemm.h"
#include "cpu/isa/blocked.h"

namespace cnncore {
namespace {

template <class T>
void run_depthwise(const ConvShape& s, const T* x, const T* weight, const T* bias,
                   const Finish<T>& finish, T* y) {
  const BlockedLoops<T>& loops = blocked_loops<T>();
  const Limits<T> limits(finish);
  const index_t B = block_lanes<T>(), blocks = ceil_div(s.channels, B), oh = s.oh(), ow = s.ow();
  for_bands(s.images * blocks, oh, ow * B * s.taps() / 4,
            [&](index_t plane, index_t first, index_t last) {
              const index_t offset = (plane * oh + first) * ow * B, block = plane % blocks;
              loops.depthwise({s.window, s.height, s.width, ow, first, last,
                               x + plane * s.height * s.width * B, y + offset},
                              {finish.residual != nullptr ? finish.residual + offset : nullptr,
                               bias + block * B, limits.low, limits.high},
                              weight + block * s.taps() * B);
              if (limits.curve) finish_run<T>(finish, nullptr, y + offset, (last - first) * ow * B);
            });
}

}  // namespace

template <class T>
bool BlockedConvolution<T>::serves(const ConvShape& s, bool transposed, bool planar_source) {
  if (s.groups == 1) return true;
  if (planar_source) return false;
  if (!transposed && s.groups == s.channels && s.outputs == s.channels) return true;
  const index_t B = block_lanes<T>();
  return s.group_channels() % (2 * B) == 0 && s.group_outputs() % (2 * B) == 0;
}

template <class T>
BlockedConvolution<T>::BlockedConvolution(const ConvShape& shape, bool transposed,
                                          bool planar_source, const T* weight, const T* bias)
    : s_(shape), transposed_(transposed), planar_(planar_source) {
  CNNCORE_REQUIRE(serves(shape, transposed, planar_source), "groups",
                  "one group, groups of whole blocks, or as many as channels", shape.groups);
  depthwise_ = s_.groups > 1 && s_.group_channels() == 1 && s_.group_outputs() == 1;
  if (!depthwise_) {
    const auto direction = transposed ? ConvDirection::input : ConvDirection::output;
    const char* const name = select_algorithm<T>("auto", s_, direction).name;
    if (std::strncmp(name, "winograd", 8) == 0) {
      winograd_ = std::make_unique<Winograd<T>>(s_, direction, winograd_tile(name), weight, bias,
                                                Winograd<T>::Weights::keep);
      return;
    }
  }
  const index_t results = transposed ? s_.channels : s_.outputs, B = block_lanes<T>();
  bias_.reset(new Scratch<T>(round_up(results, 2 * B) * max_of(1, depthwise_ ? 1 : s_.groups)));
  std::fill_n(bias_->data(), round_up(results, 2 * B), T(0));
  if (bias != nullptr) std::copy_n(bias, results, bias_->data());
  if (depthwise_) {
    const index_t blocks = ceil_div(s_.channels, B);
    packed_.reset(new Scratch<T>(blocks * s_.taps() * B));
    std::fill_n(packed_->data(), blocks * s_.taps() * B, T(0));
    for (index_t c = 0; c < s_.channels; ++c)
      for (index_t t = 0; t < s_.taps(); ++t)
        (*packed_)[(c / B * s_.taps() + t) * B + c % B] = weight[c * s_.taps() + t];
  } else {
    packed_.reset(
        new Scratch<T>(transposed ? transpose_panels_size<T>(s_) : forward_panels_size<T>(s_)));
    (transposed ? pack_transpose<T> : pack_forward<T>)(s_, weight, packed_->data());
  }
}

template <class T>
BlockedShape BlockedConvolution<T>::source() const {
  if (transposed_) return {s_.images, s_.outputs, s_.oh(), s_.ow()};
  return {s_.images, s_.channels, s_.height, s_.width};
}

template <class T>
BlockedShape BlockedConvolution<T>::target() const {
  if (transposed_) return {s_.images, s_.channels, s_.height, s_.width};
  return {s_.images, s_.outputs, s_.oh(), s_.ow()};
}

template <class T>
std::size_t BlockedConvolution<T>::bytes() const {
  return winograd_ != nullptr ? winograd_->bytes() : packed_->bytes() + bias_->bytes();
}

template <class T>
void BlockedConvolution<T>::run(const T* from, const Finish<T>& finish, T* to,
                                const T* scale) const {
  const index_t B = block_lanes<T>();
  if (depthwise_) {
    run_depthwise(s_, from, packed_->data(), bias_->data(), finish, to);
    return;
  }
  const BlockedShape in = source(), out = target();
  if (winograd_ != nullptr) {
    winograd_->run({from, in.channels, in.height, in.width, planar_ ? 1 : B}, finish,
                   {to, out.channels, out.height, out.width, B});
    return;
  }
  const index_t pixel = planar_ ? 1 : B, group_in = in.channels / s_.groups;
  const index_t group_out = out.channels / s_.groups;
  BlockedJob<T> job{};
  job.pixel = pixel;
  job.scale = scale;
  job.images = in.images;
  job.channels = group_in;
  job.height = in.height;
  job.width = in.width;
  job.image_stride = round_up(in.channels, pixel) * in.pixels();
  job.outputs = group_out;
  job.target_image_stride = round_up(out.channels, B) * out.pixels();
  job.target_block_stride = out.pixels() * B;
  std::vector<BlockedJob<T>> jobs;
  for (index_t g = 0; g < s_.groups; ++g) {
    job.source = from + g * group_in * in.pixels();
    job.bias = bias_->data() + g * group_out;
    const index_t target = g * group_out * out.pixels();
    if (!transposed_) {
      job.h = forward_taps(s_.window.h);
      job.w = forward_taps(s_.window.w);
      job.grid_h = out.height;
      job.grid_w = out.width;
      job.panels = packed_->data() + g * (forward_panels_size<T>(s_) / s_.groups);
      job.target = target;
      job.row_step = out.width * B;
      job.column_step = B;
      jobs.push_back(job);
      continue;
    }
    const T* packed = packed_->data() + g * transpose_group_size<T>(s_);
    for (const Phase& h : phases_of(s_.window.h, s_.height))
      for (const Phase& w : phases_of(s_.window.w, s_.width)) {
        job.h = h.taps;
        job.w = w.taps;
        job.grid_h = h.count;
        job.grid_w = w.count;
        job.panels = packed;
        job.target = target + (h.first * out.width + w.first) * B;
        job.row_step = s_.window.h.stride * out.width * B;
        job.column_step = s_.window.w.stride * B;
        packed += packed_size(tile_kernels<T>(), group_in * job.taps(), group_out);
        jobs.push_back(job);
      }
  }
  run_jobs(jobs, finish, to);
}

template class BlockedConvolution<float>;
template class BlockedConvolution<double>;

}  // namespace cnncore
