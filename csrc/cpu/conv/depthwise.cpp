#include "cpu/conv/depthwise.h"

#include <algorithm>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/conv/kept.h"
#include "cpu/grouped_direct.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void filter_line(const T* band, const index_t* offset, const T* weight,
                                              index_t taps, T bias, T* line, index_t n))

namespace {

constexpr index_t kLine = 4096;        // outputs of a band: its copy and its line stay in the cache
constexpr index_t kChunkWork = 65536;  // products worth handing to another thread

// One axis: which phases of the stride the taps read, and how far into them.
struct Phases {
  explicit Phases(const Window1d& w) : window(w) {
    for (index_t k = 0; k < w.kernel; ++k) {
      const index_t phase = k * w.dilation % w.stride;
      const auto known = std::find(used.begin(), used.end(), phase);
      slot.push_back(known - used.begin());
      if (known == used.end()) used.push_back(phase);
      shift.push_back(k * w.dilation / w.stride);
    }
    reach = *std::max_element(shift.begin(), shift.end());
  }

  const Window1d& window;
  std::vector<index_t> used;         // the phases that are copied
  std::vector<index_t> slot, shift;  // of each tap: which of them, and the place in it
  index_t reach;                     // the largest shift
};

template <class T>
void copy_row(const T* from, index_t count, index_t step, T* to) {
  if (step == 1) {
    for (index_t i = 0; i < count; ++i) to[i] = from[i];
  } else if (step == 2) {
    for (index_t i = 0; i < count; ++i) to[i] = from[2 * i];
  } else {
    for (index_t i = 0; i < count; ++i) to[i] = from[step * i];
  }
}

// How a layer is cut up. Depends on shapes only.
template <class T>
struct Plan {
  const ConvShape& s;
  Phases h, w;
  index_t band, bands;        // rows of outputs
  index_t pitch, phase_size;  // of a row of the copy, of a phase of a channel
  index_t size;               // of the copy of a channel
  std::vector<index_t> offset;
  std::vector<index_t> first, last;  // of each column phase: which of its places are in the plane

  explicit Plan(const ConvShape& shape) : s(shape), h(shape.window.h), w(shape.window.w) {
    pitch = s.ow() + w.reach;
    band = max_of(1, min_of(s.oh(), kLine / max_of(1, pitch)));
    bands = ceil_div(s.oh(), band);
    band = ceil_div(s.oh(), max_of(1, bands));
    phase_size = checked_product(band + h.reach, pitch);
    size = checked_product(phase_size, static_cast<index_t>(h.used.size() * w.used.size()));
    for (index_t c = 0; c < s.group_channels(); ++c)
      for (std::size_t i = 0; i < h.slot.size(); ++i)
        for (std::size_t j = 0; j < w.slot.size(); ++j)
          offset.push_back(c * size + h.shift[i] * pitch + w.shift[j] +
                           (h.slot[i] * static_cast<index_t>(w.used.size()) + w.slot[j]) *
                               phase_size);
    for (index_t phase : w.used) {
      const Window1d places{1, w.window.stride, w.window.before - phase, 0, 1};
      index_t begin, end;
      places.outputs_inside(0, s.width, pitch, begin, end);
      first.push_back(min_of(begin, end));
      last.push_back(end);
    }
  }

  // Elements of scratch: the copies, what the filter may read beyond them, the line.
  index_t copy_size() const { return s.group_channels() * size + kFilterLanes; }
  index_t line_size() const { return band * pitch + kFilterLanes; }

  void copy(const T* plane, index_t row, T* to) const {
    for (index_t phase_h : h.used)
      for (std::size_t j = 0; j < w.used.size(); ++j) {
        const index_t begin = first[j], end = last[j];
        const index_t column = begin * w.window.stride + w.used[j] - w.window.before;
        for (index_t r = 0; r < band + h.reach; ++r, to += pitch) {
          const index_t source = (row + r) * h.window.stride + phase_h - h.window.before;
          if (source < 0 || source >= s.height || begin >= end) {
            std::fill_n(to, pitch, T(0));
            continue;
          }
          for (index_t i = 0; i < begin; ++i) to[i] = T(0);
          copy_row(plane + source * s.width + column, end - begin, w.window.stride, to + begin);
          for (index_t i = end; i < pitch; ++i) to[i] = T(0);
        }
      }
  }
};

template <class T>
void depthwise(const ConvShape& s, const T* x, const T* weight, const T* bias,
               const Finish<T>& finish, T* y) {
  const index_t oh = s.oh(), ow = s.ow(), in = s.height * s.width;
  if (s.images * s.outputs * oh * ow == 0) return;
  const Plan<T> plan(s);
  const FilterLine<T> filter = CNNCORE_SELECT_ISA(filter_line<T>);
  const auto taps = static_cast<index_t>(plan.offset.size());
  const index_t work = plan.band * plan.pitch * (taps + 4);
  parallel_for(
      s.images * s.outputs * plan.bands, max_of(1, kChunkWork / work),
      [&](index_t begin, index_t end) {
        Scratch<T> copies(plan.copy_size()), line(plan.line_size());
        std::fill_n(copies.data() + plan.copy_size() - kFilterLanes, kFilterLanes, T(0));
        for (index_t task = begin; task < end; ++task) {
          const index_t plane = task / plan.bands, row = task % plan.bands * plan.band;
          const index_t rows = min_of(plan.band, oh - row);
          const index_t n = plane / s.outputs, o = plane % s.outputs;
          const index_t channel = n * s.channels + o / s.group_outputs() * s.group_channels();
          for (index_t c = 0; c < s.group_channels(); ++c)
            plan.copy(x + (channel + c) * in, row, copies.data() + c * plan.size);
          filter(copies.data(), plan.offset.data(), weight + o * taps, taps,
                 bias != nullptr ? bias[o] : T(0), line.data(), (rows - 1) * plan.pitch + ow);
          const index_t target = (plane * oh + row) * ow;
          for (index_t r = 0; r < rows; ++r)
            copy_row(line.data() + r * plan.pitch, ow, 1, y + target + r * ow);
          if (finish.needed())
            finish_run(finish, finish.residual != nullptr ? finish.residual + target : nullptr,
                       y + target, rows * ow);
        }
      });
}

template <class T>
DirectPlanes<T> direct_planes(const ConvShape& s) {
  return {s.window, s.height, s.width, s.oh(), s.ow()};
}

// --- depthwise -----------------------------------------------------------------------------------

template <class T>
void depthwise_transpose(const ConvShape& s, const T* y, const T* weight, const T* bias, T* x) {
  const DirectPlanes<T> planes = direct_planes<T>(s);
  const auto kernel = direct_kernels<T>().transpose;
  const index_t in = s.height * s.width, out = planes.oh * planes.ow;
  parallel_for(s.images * s.channels, grain_for(out * s.taps()), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t n = i / s.channels, channel = i % s.channels;
      const index_t group = channel / s.group_channels(), c = channel % s.group_channels();
      std::fill_n(x + i * in, in, bias != nullptr ? bias[channel] : T(0));
      for (index_t j = 0; j < s.group_outputs(); ++j) {
        const index_t o = group * s.group_outputs() + j;
        kernel(planes, y + (n * s.outputs + o) * out,
               weight + (o * s.group_channels() + c) * s.taps(), x + i * in);
      }
    }
  });
}

template <class T>
void depthwise_weight(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  const DirectPlanes<T> planes = direct_planes<T>(s);
  const auto kernel = direct_kernels<T>().weight;
  const index_t in = s.height * s.width, out = planes.oh * planes.ow;
  parallel_for(s.outputs * s.group_channels(), grain_for(s.images * out * s.taps()),
               [&](index_t begin, index_t end) {
                 for (index_t i = begin; i < end; ++i) {
                   const index_t o = i / s.group_channels(), c = i % s.group_channels();
                   const index_t channel = o / s.group_outputs() * s.group_channels() + c;
                   T* const target = gweight + i * s.taps();
                   std::fill_n(target, s.taps(), T(0));
                   for (index_t n = 0; n < s.images; ++n)
                     kernel(planes, x + (n * s.channels + channel) * in,
                            gy + (n * s.outputs + o) * out, target);
                 }
               });
}

template <class T>
class DepthwiseLayer final : public ConvLayer<T> {
 public:
  DepthwiseLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias)
      : s_(shape),
        direction_(direction),
        weight_(weight, shape.weight_size()),
        bias_(keep_bias(shape, direction, bias)) {}

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    if (direction_ == ConvDirection::output) {
      depthwise(s_, from, weight_.data(), bias_.data(), finish, to);
    } else {
      depthwise_transpose(s_, from, weight_.data(), bias_.data(), to);
      finish_all(finish, to, s_.input_size());
    }
  }

  std::size_t bytes() const override { return weight_.bytes() + bias_.bytes(); }

 private:
  ConvShape s_;
  ConvDirection direction_;
  Kept<T> weight_, bias_;
};

bool serves(const ConvShape& s, ConvDirection) {
  return s.group_channels() * s.group_outputs() <= 2;
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
      &depthwise_weight<T>};
  return algorithm;
}

template const ConvAlgorithm<float>& depthwise_algorithm();
template const ConvAlgorithm<double>& depthwise_algorithm();

}  // namespace cnncore
