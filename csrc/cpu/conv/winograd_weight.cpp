// The gradient towards the weights, by the transposed algorithm: x is transformed as for the
// output, the tiles of gy from m x m to n x n, and
//
//   P[e] (channels x outputs) = V[e]ᵀ (channels x tiles) · Y[e] (tiles x outputs),  gweight = Gᵀ P
//   G.
//
// With stride 2 there is a P for each phase of the filters; one Y serves all.
//
// The tiles are taken in portions whose V and Y fit the last-level cache: first both are made, by
// channels, then the products, by parts of P.
#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"
#include "cpu/caches.h"
#include "cpu/conv/winograd.h"

namespace cnncore {
namespace {

constexpr index_t kPortionBytes = 8 << 20;  // of V and Y together

template <class T>
class WeightGradient {
 public:
  WeightGradient(const ConvShape& shape, index_t m, const T* x, const T* gy, T* gweight)
      : kernels_(winograd_kernels<T>()),
        tiles_(tile_kernels<T>()),
        form_(winograd_form<T>(shape, m)),
        p_(winograd_problem(shape, ConvDirection::weight, m)),
        grid_(p_.grid()),
        x_(winograd_reader<T>(form_, p_, {x, shape.channels, p_.in_h, p_.in_w})),
        gy_{kernels_,
            &form_.gradient,
            nullptr,
            p_.dilation,
            {gy, shape.outputs, p_.out_h, p_.out_w},
            p_.write_step(),
            p_.write_step(),
            0,
            0},
        gweight_(gweight),
        width_(kernels_.width),
        points_(form_.points * form_.points),
        rows_(form_.phases * points_),
        channel_vectors_(ceil_div(p_.channels, width_)),
        output_vectors_(ceil_div(p_.outputs, width_)),
        panels_(tiles_.panels(p_.outputs)) {
    const index_t bytes = static_cast<index_t>(sizeof(T)) * width_ *
                          (rows_ * channel_vectors_ + points_ * output_vectors_);
    const index_t most = max_of(1, max_of(kMaxTileRows, kPortionBytes / bytes) / p_.lattices());
    portion_ = ceil_div(grid_.count(), ceil_div(grid_.count(), most));
    places_ = p_.lattices() * portion_;
    v_stride_ = odd_lines<T>(form_.phases * channel_vectors_ * places_ * width_);
    y_stride_ = odd_lines<T>(output_vectors_ * places_ * width_);
    const index_t row = rows_ * tiles_.panel_columns() * static_cast<index_t>(sizeof(T));
    parts_ = ceil_div(p_.channels, max_of(width_, caches().second / 4 / row));
    part_ = round_up(ceil_div(p_.channels, parts_), width_);
    parts_ = ceil_div(p_.channels, part_);
    sums_stride_ = odd_lines<T>(part_ * tiles_.panel_columns());
  }

  void run() const {
    Scratch<T> v(checked_product(points_, v_stride_)), y(checked_product(points_, y_stride_));
    const bool kept = portion_ < grid_.count();
    Scratch<T> sums(kept ? checked_product(panels_, parts_, rows_ * sums_stride_) : 0);
    for (index_t group = 0; group < p_.groups; ++group)
      for (index_t first = 0; first < grid_.count(); first += portion_) {
        const index_t last = min_of(grid_.count(), first + portion_);
        transform(group, first, last, v.data(), y.data());
        multiply(group, first, last, v.data(), y.data(), kept ? sums.data() : nullptr);
      }
  }

 private:
  // V and Y of one portion of the tiles: V in vectors of channels, Y in panels of outputs.
  void transform(index_t group, index_t first, index_t last, T* v, T* y) const {
    const index_t runs = ceil_div(last - first, kRunTiles);
    parallel_for(runs * (channel_vectors_ + output_vectors_),
                 grain_for(kRunTiles * points_ * width_ * 4), [&](index_t begin, index_t end) {
                   Scratch<T> space(winograd_space(form_, p_));
                   for (index_t i = begin; i < end; ++i) {
                     const index_t from = i % runs * kRunTiles;
                     const index_t to = min_of(last - first, from + kRunTiles);
                     index_t c = i / runs * width_;
                     if (c < channel_vectors_ * width_) {
                       read(x_, group * p_.channels, p_.channels, c, first + from, first + to,
                            space.data(), v + c * places_ + from * width_, v_stride_, width_,
                            form_.phases > 1 ? channel_vectors_ * places_ * width_
                                             : (last - first) * width_);
                       continue;
                     }
                     c -= channel_vectors_ * width_;
                     const index_t panel = c / tiles_.panel_columns(), lanes = lanes_of(panel);
                     read(gy_, group * p_.outputs, p_.outputs, c, first + from, first + to,
                          space.data(), y + panel_offset(panel) + from * lanes + lane_of(c),
                          y_stride_, lanes, (last - first) * lanes);
                   }
                 });
  }

  // One vector of channels, from `c` of the `channels` that begin at `base`, of some tiles.
  void read(const TileReader<T>& reader, index_t base, index_t channels, index_t c, index_t first,
            index_t last, T* space, T* to, index_t stride, index_t next, index_t phase) const {
    grid_.for_runs(first, last, [&](const TileRun& run, index_t before) {
      reader.read(run, base + c, min_of(width_, channels - c), space, to + before * next, stride,
                  next, phase);
    });
  }

  // The products of one portion, by panels of outputs and parts of the channels: few enough for
  // their P to stay in the second-level cache, where the last portion turns it into the gradient.
  void multiply(index_t group, index_t first, index_t last, const T* v, const T* y, T* sums) const {
    const index_t tiles = p_.lattices() * (last - first);
    Scratch<index_t> rows(part_), depth(tiles);
    for (index_t c = 0; c < part_; ++c) rows[c] = c / width_ * width_ * places_ + c % width_;
    for (index_t t = 0; t < tiles; ++t) depth[t] = t * width_;
    parallel_for(panels_ * parts_, 1, [&](index_t begin, index_t end) {
      Scratch<T> local(sums != nullptr ? 0 : rows_ * sums_stride_);
      for (index_t i = begin; i < end; ++i) {
        const index_t panel = i / parts_, lanes = lanes_of(panel), c = i % parts_ * part_;
        const index_t channels = min_of(part_, p_.channels - c);
        T* const sum = sums != nullptr ? sums + i * rows_ * sums_stride_ : local.data();
        for (index_t row = 0; row < rows_; ++row) {
          const index_t e = row % points_, phase = row / points_;
          const auto phases = form_.phases_at(static_cast<int>(e));
          if (phase < phases.first || phase >= phases.last) continue;
          run_tiles(
              tiles_,
              TileArgs<T>{v + e * v_stride_ + (phase * channel_vectors_ * width_ + c) * places_,
                          rows.data(), depth.data(), tiles, y + e * y_stride_ + panel_offset(panel),
                          sum + row * sums_stride_, lanes, first > 0},
              channels, lanes);
        }
        if (last == grid_.count()) finish(group, panel, c, channels, sum);
      }
    });
  }

  // gweight of a panel and a part of the channels.
  void finish(index_t group, index_t panel, index_t c, index_t channels, const T* sum) const {
    constexpr index_t some = 16;  // channels at a time
    const index_t size = form_.taps * form_.taps, lanes = lanes_of(panel);
    Scratch<T> filters(some * size * width_);
    for (index_t lane = 0; lane < lanes; lane += width_) {
      const index_t o = panel * tiles_.panel_columns() + lane;
      T* const to = gweight_ + ((group * p_.outputs + o) * p_.channels + c) * size;
      for (index_t k = 0; k < channels; k += some) {
        const index_t count = min_of(some, channels - k);
        form_.weight_gradient(sum + k * lanes + lane, sums_stride_, lanes, count, filters.data());
        kernels_.scatter(filters.data(), min_of(width_, p_.outputs - o), count * size,
                         to + k * size, p_.channels * size);
      }
    }
  }

  index_t lanes_of(index_t panel) const { return tiles_.lanes(panel, p_.outputs); }
  index_t lane_of(index_t output) const { return output % tiles_.panel_columns(); }
  index_t panel_offset(index_t panel) const { return panel * tiles_.panel_columns() * places_; }

  const WinogradKernels<T>& kernels_;
  const TileKernels<T>& tiles_;
  const WinogradForm<T>& form_;
  WinogradProblem p_;
  TileGrid grid_;
  TileReader<T> x_, gy_;
  T* gweight_;
  index_t width_, points_, rows_, channel_vectors_, output_vectors_, panels_;
  index_t portion_, part_, parts_, places_, v_stride_, y_stride_, sums_stride_;
};

}  // namespace

template <class T>
void winograd_weight(const ConvShape& shape, index_t m, const T* x, const T* gy, T* gweight) {
  if (shape.images == 0 || shape.oh() == 0 || shape.ow() == 0) {
    std::fill_n(gweight, shape.weight_size(), T(0));
    return;
  }
  if (shape.outputs == 0 || shape.channels == 0) return;
  WeightGradient<T>(shape, m, x, gy, gweight).run();
}

template void winograd_weight(const ConvShape&, index_t, const float*, const float*, float*);
template void winograd_weight(const ConvShape&, index_t, const double*, const double*, double*);

}  // namespace cnncore
