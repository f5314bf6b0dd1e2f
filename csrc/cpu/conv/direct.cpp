// "direct": a convolution whose results are stored where they belong as they are computed.
//
// Arithmetic: the micro-kernel (plane_tile.h) holds up to 14 output channels x 2 vectors of
// neighbouring pixels in registers and runs through the whole sum over (channel, kh, kw) at once;
// every step is two loads of pixels and one broadcast weight a channel. Pixels come from the source
// itself where no tap leaves it, else from a copy of a band of rows with zeros around it; for a
// stride, the copy is split by column modulo the stride, so that the pixels of neighbouring results
// lie side by side. Kernels of one pixel are copied tile by tile where they cannot be read in place
// (direct_plan.cpp says when), each tile with all its channels side by side, as for a matrix
// product. Nothing is transposed: this pays where the sum is short (few channels, the
// first layer, 1x1), while rows narrower than a vector waste lanes. There "implicit_gemm" is
// better.
//
// Three kinds of transposes have forms of their own: those with a stride as wide as a vector
// (wide_transpose.cpp), those that make each pixel a patch (patch_transpose.cpp) and those whose
// kernels are one pixel (strided_transpose.cpp). Any other transpose with stride is one correlation
// for each phase; the phases of the columns are computed into a small buffer and interleaved on the
// way to the result.
//
// Blocking: a task is a band of rows (of an image and a group) that half the second-level cache
// holds; in it, blocks of output channels are outermost, since their weights fit the first level.
// Bands read in place are smaller: while one is computed, the next is asked for.
#include "cpu/conv/direct.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/conv/correlate_weight.h"
#include "cpu/conv/kept.h"
#include "cpu/conv/patch_transpose.h"
#include "cpu/conv/strided_transpose.h"
#include "cpu/conv/wide_transpose.h"
#include "cpu/copy_columns.h"
#include "cpu/plane_tile.h"

namespace cnncore {
namespace {

constexpr index_t kChunkWork = 500000;  // products worth handing to another thread
constexpr index_t kChunks = 8;          // of each thread, where there are as many

template <class T>
class DirectLayer final : public ConvLayer<T> {
 public:
  DirectLayer(const ConvShape& shape, ConvDirection direction, const T* weight, const T* bias)
      : kernels_(plane_tile_kernels<T>()),
        s_(shape),
        forward_(direction == ConvDirection::output),
        plan_(shape, direction, kernels_.rows, kernels_.pitch, kernels_.width, sizeof(T)),
        packed_(checked_product(plan_.group_weights, plan_.groups)),
        bias_(keep_bias(shape, direction, bias)) {
    const index_t blocks = kernels_.blocks(plan_.outputs);
    const index_t work = plan_.group_weights / max_of(1, blocks);
    parallel_for(plan_.groups * blocks, grain_for(2 * work), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) pack_block(weight, i / blocks, i % blocks);
    });
  }

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    if (plan_.images * plan_.outputs * plan_.target_height * plan_.target_width == 0) return;
    std::vector<index_t> start{0};  // first task of each part
    index_t work = 1;
    for (const DirectPart& part : plan_.parts) {
      start.push_back(start.back() + part.tasks(plan_.images, plan_.groups));
      const index_t rows = part.pixels_in_bands() ? 1 : part.columns[0].count;
      for (const DirectColumns& c : part.columns)
        work = max_of(work, part.band * rows * c.depth * plan_.outputs / part.block_groups *
                                static_cast<index_t>(part.columns.size()));
    }
    // Neighbouring tasks on one thread: the first asks for the pixels of the next (compute()).
    const index_t chunk = max_of(kChunkWork / work, start.back() / (kChunks * get_num_threads()));
    parallel_for(start.back(), max_of(1, chunk), [&](index_t begin, index_t end) {
      for (index_t task = begin; task < end; ++task) {
        const auto part = std::upper_bound(start.begin(), start.end(), task) - start.begin() - 1;
        Task(*this, plan_.parts[static_cast<std::size_t>(part)],
             task - start[static_cast<std::size_t>(part)], from, to)
            .run(finish);
      }
    });
  }

  std::size_t bytes() const override { return packed_.bytes() + bias_.bytes(); }

 private:
  // Weights of outputs first_row(block).. of a group: [sum][pitch] for every phase.
  void pack_block(const T* weight, index_t group, index_t block) {
    const index_t first = kernels_.first_row(block, plan_.outputs);
    const index_t rows = kernels_.first_row(block + 1, plan_.outputs) - first;
    const index_t taps = s_.taps(), width = s_.window.w.kernel, pitch = kernels_.pitch;
    T* const to = packed_.data() + group * plan_.group_weights;
    if (forward_) {
      const index_t depth = plan_.channels * taps;
      // Whole vectors of rows are transposed faster; those beyond `rows` are never used.
      kernels_.pack(weight + (group * plan_.outputs + first) * depth, depth,
                    min_of(pitch, plan_.outputs - first), depth, to + block * depth * pitch);
      return;
    }
    for (const DirectPart& part : plan_.parts)
      for (const DirectColumns& columns : part.columns) {
        T* row = to + columns.weights + block * columns.depth * pitch;
        for (index_t o = 0; o < plan_.channels; ++o) {
          const T* const filters =
              weight + ((group * plan_.channels + o) * plan_.outputs + first) * taps;
          for (index_t kh : part.kernel)
            for (index_t kw : columns.kernel) {
              const T* const tap = filters + kh * width + kw;
              for (index_t r = 0; r < rows; ++r) row[r] = tap[r * taps];
              row += pitch;
            }
        }
      }
  }

  // A band of rows of one image and group, some blocks of its output channels.
  class Task {
   public:
    Task(const DirectLayer& layer, const DirectPart& part, index_t task, const T* from, T* to)
        : layer_(layer), plan_(layer.plan_), part_(part), kernels_(layer.kernels_) {
      block_group_ = task % part.block_groups;
      task /= part.block_groups;
      first_ = task % part.bands * part.band;
      task /= part.bands;
      group_ = task % plan_.groups;
      image_ = task / plan_.groups;
      source_ = from + task * plan_.channels * plan_.height * plan_.width;
      result_ = to;
      const index_t all = part.pixels_in_bands() ? part.count * part.columns[0].count : part.count;
      count_ = min_of(part.band, all - first_);
      if (part.pixels_in_bands() && part.in_place && part.block_groups == 1) {
        const bool last = first_ + part.band >= all;
        ahead_ = last ? plan_.channels * plan_.height * plan_.width - first_ : part.band;
      }
      runs_ = part.flat ? 1 : count_;
      run_ = part.columns[0].count;
      if (part.flat) run_ = part.pixels_in_bands() ? count_ : count_ * run_;
    }

    void run(const Finish<T>& finish) const {
      if (count_ <= 0) return;
      Scratch<T> local(part_.local_size);
      const T* pixels = source_ + first_ * (part_.pixels_in_bands() ? 1 : part_.row_step);
      if (part_.panels) {
        copy_panels(local.data());
        pixels = local.data();
      } else if (!part_.in_place) {
        copy(local.data());
        pixels = local.data();
      }
      const index_t phases = static_cast<index_t>(part_.columns.size());
      // The phases of the columns lie apart until they are interleaved.
      const index_t pitch = part_.joined ? (runs_ - 1) * part_.row_step + run_ : run_;
      Scratch<T> apart(phases > 1 ? phases * kernels_.rows * pitch : 0);
      const index_t blocks = kernels_.blocks(plan_.outputs);
      const index_t last = blocks * (block_group_ + 1) / part_.block_groups;
      for (index_t b = blocks * block_group_ / part_.block_groups; b < last; ++b) {
        const index_t first = kernels_.first_row(b, plan_.outputs);
        const index_t rows = kernels_.first_row(b + 1, plan_.outputs) - first;
        for (index_t u = 0; u < runs_; ++u) {
          const T* const row = pixels + u * part_.row_step;
          const index_t offset = target_offset(first, u);
          if (phases == 1) {
            compute(part_.columns[0], b, first, rows, row, run_, result_ + offset, plane());
          } else {
            for (index_t f = 0; f < phases && (u == 0 || !part_.joined); ++f) {
              const DirectColumns& columns = part_.columns[static_cast<std::size_t>(f)];
              compute(columns, b, first, rows, row, part_.joined ? pitch : columns.count,
                      apart.data() + f * rows * pitch, pitch);
            }
            const T* const phase = apart.data() + (part_.joined ? u * part_.row_step : 0);
            for (index_t r = 0; r < rows; ++r)
              interleave(phase + r * pitch, rows * pitch, result_ + offset + r * plane());
          }
          for (index_t r = 0; r < rows && finish.needed(); ++r) {
            const index_t at = offset + r * plane();
            finish_run(finish, finish.residual != nullptr ? finish.residual + at : nullptr,
                       result_ + at, phases == 1 ? run_ : plan_.target_width);
          }
        }
      }
    }

   private:
    index_t plane() const { return plan_.target_height * plan_.target_width; }

    // Of the first pixel of run `u` of output channel `channel`.
    index_t target_offset(index_t channel, index_t u) const {
      const index_t planes = (image_ * plan_.groups + group_) * plan_.outputs + channel;
      const index_t row =
          part_.pixels_in_bands() ? 0 : part_.first + (first_ + u) * plan_.target_row_step;
      return planes * plane() + row * plan_.target_width + (part_.pixels_in_bands() ? first_ : 0);
    }

    // `rows` output channels of block `b`, beginning with `first`, along one run of pixels.
    void compute(const DirectColumns& columns, index_t b, index_t first, index_t rows,
                 const T* pixels, index_t count, T* target, index_t stride) const {
      const T* const bias = layer_.bias_.data();
      PlaneTileArgs<T> args{layer_.packed_.data() + group_ * plan_.group_weights + columns.weights +
                                b * columns.depth * kernels_.pitch,
                            pixels,
                            part_.panels ? nullptr : columns.offset.data(),
                            columns.depth,
                            bias != nullptr ? bias + group_ * plan_.outputs + first : nullptr,
                            target,
                            stride,
                            0,
                            pixels};
      const index_t width = kernels_.width;
      // Each of the first blocks asks for one cache line of every plane that the next task reads.
      const index_t line = kLineBytes / static_cast<index_t>(sizeof(T));
      const index_t ahead = ahead_ > 0 && b * line < 2 * width ? ahead_ + b * line : 0;
      for (index_t p = 0; p < count; p += 2 * width) {
        args.lanes = min_of(2 * width, count - p);
        args.source = pixels + (part_.panels ? p * plan_.channels : p);
        args.ahead = args.source + ahead;
        args.target = target + p;
        kernels_.run[part_.panels][args.lanes > width][args.lanes % width == 0][rows](args);
      }
    }

    // Copies the rows that the band reads, split by column modulo the step, zeros outside.
    void copy(T* local) const {
      const DirectColumns& columns = part_.columns[0];
      const index_t step = columns.taps.step, rows = part_.taps.extent(count_);
      const index_t top = first_ * part_.taps.step + part_.taps.lowest();
      for (index_t c = 0; c < plan_.channels; ++c)
        for (index_t r = 0; r < rows; ++r) {
          const index_t row = top + r * part_.taps.copy_step();
          const bool inside = row >= 0 && row < plan_.height;
          const T* const from = source_ + (c * plan_.height + row) * plan_.width;
          T* to = local + c * part_.channel_pitch + r * part_.row_pitch;
          for (index_t slot : part_.slots) {
            const index_t column = part_.lowest + slot;
            if (inside)
              copy_columns(kernels_, from, plan_.width, column, step, part_.slot_pitch, to);
            else
              std::fill_n(to, part_.slot_pitch, T(0));
            to += part_.slot_pitch;
          }
        }
    }

    // Copies the pixels of the band: tile after tile, in each channel after channel.
    void copy_panels(T* local) const {
      const index_t tile = 2 * kernels_.width, columns = part_.columns[0].count;
      const index_t step = part_.columns[0].taps.step;
      const bool whole = part_.taps.step == 1 && step == 1 && columns == plan_.width;
      const index_t row = first_ / columns, rows = ceil_div(first_ + count_, columns) - row;
      Scratch<T> line(whole ? 0 : rows * columns);
      for (index_t c = 0; c < plan_.channels; ++c) {
        const T* const plane = source_ + c * plan_.height * plan_.width;
        for (index_t r = 0; r < rows && !whole; ++r)
          copy_columns(kernels_, plane + (row + r) * part_.taps.step * plan_.width, plan_.width, 0,
                       step, columns, line.data() + r * columns);
        kernels_.split(whole ? plane + first_ : line.data() + first_ - row * columns, count_,
                       local + c * tile, plan_.channels * tile);
      }
    }

    // The phases of one row, `pitch` apart, become the row.
    void interleave(const T* phases, index_t pitch, T* to) const {
      if (part_.columns.size() == 2) {
        const index_t even = part_.columns[0].count, odd = part_.columns[1].count;
        kernels_.interleave(phases, phases + pitch, odd, to);
        if (even > odd) to[2 * odd] = phases[odd];
        return;
      }
      for (const DirectColumns& columns : part_.columns) {
        for (index_t i = 0; i < columns.count; ++i)
          to[columns.first + i * plan_.column_step] = phases[i];
        phases += pitch;
      }
    }

    const DirectLayer& layer_;
    const DirectPlan& plan_;
    const DirectPart& part_;
    const PlaneTileKernels<T>& kernels_;
    index_t block_group_, group_, image_;
    index_t first_, count_;  // rows of the result, of this part, or pixels
    index_t runs_, run_;     // stretches of neighbouring pixels, their length
    index_t ahead_ = 0;      // from these pixels to those of the next task; 0: not known
    const T* source_;
    T* result_;
  };

  const PlaneTileKernels<T>& kernels_;
  ConvShape s_;
  bool forward_;
  DirectPlan plan_;
  Kept<T> packed_, bias_;
};

template <class T, bool kOnce>
std::unique_ptr<ConvLayer<T>> prepare(const ConvShape& s, ConvDirection direction, const T* weight,
                                      const T* bias) {
  if (is_wide_transpose(s, direction, plane_tile_kernels<T>().width))
    return wide_transpose(s, weight, bias, kOnce);
  if (is_patch_transpose(s, direction)) return patch_transpose(s, weight, bias);
  if (is_strided_transpose(s, direction)) return strided_transpose(s, weight, bias, kOnce);
  return std::make_unique<DirectLayer<T>>(s, direction, weight, bias);
}

}  // namespace

template <class T>
const ConvAlgorithm<T>& direct_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "direct", [](const ConvShape&, ConvDirection) { return true; }, &prepare<T, false>,
      // The gradient of the weights has pixels along its sum: the other engine's.
      &correlate_weight<T>, &direct_steps, &prepare<T, true>};
  return algorithm;
}

template const ConvAlgorithm<float>& direct_algorithm();
template const ConvAlgorithm<double>& direct_algorithm();

}  // namespace cnncore
