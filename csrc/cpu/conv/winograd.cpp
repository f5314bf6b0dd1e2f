#include "cpu/conv/winograd.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"

namespace cnncore {
namespace {

constexpr index_t kBlockProducts = 2016;     // of a block: 56 tiles of 36, 28 of 64
constexpr index_t kBlockTiles = 56;          // four micro-kernel tiles of 14 rows
constexpr index_t kFewTiles = 100;           // up to here U is larger than V and M
constexpr index_t kFilterBytes = 256 << 10;  // of U that a task of few tiles makes at a time

// As many tiles a block as wanted, but an even number of blocks: two threads share them evenly.
index_t block_tiles(index_t tiles, index_t products) {
  const index_t most = min_of(kBlockTiles, kBlockProducts / products);
  return ceil_div(tiles, round_up(ceil_div(tiles, most), 2));
}

bool few_tiles(index_t tiles, index_t products) {
  return tiles <= kFewTiles && tiles * products <= kFewTiles * 36;
}

template <class T>
const WinogradForm<T>& form_of(index_t m) {
  const WinogradKernels<T>& kernels = winograd_kernels<T>();
  return m == kPhases ? kernels.phases : m == 4 ? kernels.four : kernels.two;
}

}  // namespace

bool winograd_serves(const ConvShape& s, ConvDirection) {
  const Window1d &h = s.window.h, &w = s.window.w;
  return h.kernel == 3 && w.kernel == 3 && h.stride == 1 && w.stride == 1 && h.dilation == 1 &&
         w.dilation == 1;
}

bool winograd_phases_serve(const ConvShape& s, ConvDirection direction) {
  const Window1d &h = s.window.h, &w = s.window.w;
  return direction == ConvDirection::input && h.kernel == 4 && w.kernel == 4 && h.stride == 2 &&
         w.stride == 2 && h.dilation == 1 && w.dilation == 1;
}

WinogradProblem winograd_problem(const ConvShape& s, ConvDirection direction, index_t m) {
  const index_t channels = s.group_channels(), outputs = s.group_outputs();
  const Window1d &h = s.window.h, &w = s.window.w;
  if (direction == ConvDirection::output)
    return {s.images, s.groups, channels, outputs,  s.height, s.width,
            s.oh(),   s.ow(),   h.before, w.before, m};
  // Result 2 t + b - before reads the pixels t - 1 and t.
  if (m == kPhases)
    return {s.images, s.groups,     outputs,     channels,         s.oh(),
            s.ow(),   s.height,     s.width,     1 - h.before / 2, 1 - w.before / 2,
            m,        h.before % 2, w.before % 2};
  return {s.images, s.groups, outputs,      channels,     s.oh(), s.ow(),
          s.height, s.width,  2 - h.before, 2 - w.before, m};
}

template <class T>
Winograd<T>::Winograd(const ConvShape& shape, ConvDirection direction, index_t m, const T* weight,
                      const T* bias, Weights weights)
    : kernels_(winograd_kernels<T>()),
      tiles_(tile_kernels<T>()),
      form_(form_of<T>(m)),
      p_(winograd_problem(shape, direction, m)),
      direction_(direction),
      grid_(p_.grid()),
      few_(few_tiles(grid_.count(), form_.products)),
      borrowed_(weight),
      weight_size_(shape.weight_size()),
      kept_size_(
          few_ ? (weights == Weights::borrow
                      ? 0
                      : checked_product(p_.groups, vectors(), p_.channels * taps(), kernels_.width))
               : checked_product(p_.groups, panels(), form_.products, u_stride())),
      kept_(kept_size_),
      bias_(p_.groups * vectors() * kernels_.width) {
  const index_t width = kernels_.width, padded = vectors() * width;
  for (index_t g = 0; g < p_.groups; ++g)
    for (index_t o = 0; o < padded; ++o)
      bias_.data()[g * padded + o] =
          bias != nullptr && o < p_.outputs ? bias[g * p_.outputs + o] : T(0);
  if (few_ && weights == Weights::borrow) return;
  const index_t points = form_.products;
  const index_t work = p_.channels * tiles_.panel_columns() * points;
  parallel_for(p_.groups * panels(), grain_for(work), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t g = i / panels(), panel = i % panels();
      if (!few_) {
        transform_panel(g, panel, 0, p_.channels, kept_.data() + i * points * u_stride(),
                        u_stride());
        continue;
      }
      const index_t first = panel * tiles_.panel_columns(), lanes = lanes_of(panel);
      for (index_t o = first; o < first + lanes; o += width)
        form_.pack(filters(g).at(o, 0, min_of(width, p_.outputs - o)), p_.channels,
                   kept_.data() + (g * vectors() + o / width) * p_.channels * taps() * width,
                   taps() * width);
    }
  });
  borrowed_ = nullptr;
}

template <class T>
WinogradFilters<T> Winograd<T>::filters(index_t group) const {
  const bool forward = direction_ == ConvDirection::output;
  const index_t size = weight_size_ / p_.groups;
  WinogradFilters<T> all{};
  all.data = borrowed_ + group * size;
  all.end = borrowed_ + weight_size_;
  all.lane = forward ? p_.channels * taps() : taps();
  all.depth = forward ? taps() : p_.outputs * taps();
  all.flip = !forward && p_.m != kPhases;  // phases are turned as they are taken apart
  return all;
}

// U of one panel for `count` channels from `first`: u[e * stride + k * lanes].
template <class T>
void Winograd<T>::transform_panel(index_t group, index_t panel, index_t first, index_t count, T* u,
                                  index_t stride) const {
  const index_t width = kernels_.width, lanes = lanes_of(panel);
  for (index_t v = 0; v < lanes; v += width) {
    const index_t o = panel * tiles_.panel_columns() + v;
    if (borrowed_ != nullptr)
      form_.weights(filters(group).at(o, first, max_of(0, min_of(width, p_.outputs - o))), count,
                    u + v, stride, lanes);
    else
      form_.packed_weights(
          kept_.data() + ((group * vectors() + o / width) * p_.channels + first) * taps() * width,
          taps() * width, count, u + v, stride, lanes);
  }
}

// products[e] (+)= v[e] u[e] for all points e; v has channel vectors `v_pitch` elements apart.
template <class T>
void Winograd<T>::multiply(const T* v, index_t v_stride, index_t v_pitch, index_t tiles,
                           index_t channels, const T* u, index_t u_stride, index_t lanes,
                           bool accumulate, T* products, index_t products_stride) const {
  const index_t width = kernels_.width;
  Scratch<index_t> tables(tiles + channels);
  for (index_t t = 0; t < tiles; ++t) tables[t] = t * width;
  for (index_t c = 0; c < channels; ++c) tables[tiles + c] = c / width * v_pitch + c % width;
  const index_t points = form_.points * form_.points;
  for (index_t e = 0; e < form_.products; ++e)
    run_tiles(tiles_,
              TileArgs<T>{v + e % points * v_stride, tables.data(), tables.data() + tiles, channels,
                          u + e * u_stride, products + e * products_stride, lanes, accumulate},
              tiles, lanes);
}

template <class T>
void Winograd<T>::write_panel(const TileWriter<T>& writer, index_t group, index_t panel,
                              index_t first_tile, index_t last_tile, const T* products,
                              index_t stride, T* space) const {
  const index_t width = kernels_.width, lanes = lanes_of(panel);
  const index_t first = panel * tiles_.panel_columns();
  grid_.for_runs(first_tile, last_tile, [&](const TileRun& run, index_t before) {
    for (index_t v = 0; v < lanes; v += width) {
      form_.output(products + before * lanes + v, stride, lanes, run.tiles,
                   bias_.data() + group * vectors() * width + first + v, space,
                   writer.columns(run) * width);
      writer.write(run, group * p_.outputs + first + v, min_of(width, p_.outputs - first - v),
                   space);
    }
  });
}

template <class T>
void Winograd<T>::run_blocks(const TileReader<T>& reader, const TileWriter<T>& writer) const {
  const index_t width = kernels_.width, points = form_.points * form_.points;
  const index_t block = block_tiles(grid_.count(), form_.products),
                blocks = ceil_div(grid_.count(), block);
  const index_t pitch = block * width, v_stride = odd_lines<T>(channel_vectors() * pitch);
  const index_t products_stride = odd_lines<T>(block * tiles_.panel_columns());
  parallel_for(p_.groups * blocks, 1, [&](index_t begin, index_t end) {
    Scratch<T> v(points * v_stride), products(form_.products * products_stride);
    Scratch<T> space(tile_space<T>(width));
    for (index_t task = begin; task < end; ++task) {
      const index_t group = task % p_.groups, first = task / p_.groups * block;
      const index_t last = min_of(grid_.count(), first + block);
      for (index_t c = 0; c < p_.channels; c += width)
        grid_.for_runs(first, last, [&](const TileRun& run, index_t before) {
          reader.read(run, group * p_.channels + c, min_of(width, p_.channels - c), space.data(),
                      v.data() + c / width * pitch + before * width, v_stride, width);
        });
      for (index_t panel = 0; panel < panels(); ++panel) {
        multiply(v.data(), v_stride, pitch, last - first, p_.channels,
                 kept_.data() + (group * panels() + panel) * form_.products * u_stride(),
                 u_stride(), lanes_of(panel), false, products.data(), products_stride);
        write_panel(writer, group, panel, first, last, products.data(), products_stride,
                    space.data());
      }
    }
  });
}

template <class T>
void Winograd<T>::run_shared(const TileReader<T>& reader, const TileWriter<T>& writer) const {
  const index_t width = kernels_.width, points = form_.points * form_.points;
  const index_t tiles = grid_.count(), pitch = tiles * width;
  const index_t v_stride = odd_lines<T>(channel_vectors() * pitch);
  Scratch<T> v(checked_product(p_.groups, points, v_stride));
  const index_t vectors = channel_vectors(), rows = grid_.images * grid_.rows;
  parallel_for(p_.groups * vectors * rows, grain_for(grid_.columns * points * width * 4),
               [&](index_t begin, index_t end) {
                 Scratch<T> space(tile_space<T>(width));
                 for (index_t i = begin; i < end; ++i) {
                   const index_t group = i / rows / vectors, c = i / rows % vectors * width;
                   const index_t first = i % rows * grid_.columns;
                   T* const to = v.data() + group * points * v_stride + c * tiles + first * width;
                   grid_.for_runs(
                       first, first + grid_.columns, [&](const TileRun& run, index_t before) {
                         reader.read(run, group * p_.channels + c, min_of(width, p_.channels - c),
                                     space.data(), to + before * width, v_stride, width);
                       });
                 }
               });

  const index_t bytes = form_.products * tiles_.panel_columns() * static_cast<index_t>(sizeof(T));
  const index_t some = min_of(p_.channels, round_up(kFilterBytes / bytes, width));
  const index_t stride = odd_lines<T>(some * tiles_.panel_columns());
  const index_t products_stride = odd_lines<T>(tiles * tiles_.panel_columns());
  parallel_for(p_.groups * panels(), 1, [&](index_t begin, index_t end) {
    Scratch<T> u(form_.products * stride), products(form_.products * products_stride);
    Scratch<T> space(tile_space<T>(width));
    for (index_t i = begin; i < end; ++i) {
      const index_t group = i / panels(), panel = i % panels();
      for (index_t c = 0; c < p_.channels; c += some) {
        const index_t count = min_of(some, p_.channels - c);
        transform_panel(group, panel, c, count, u.data(), stride);
        multiply(v.data() + group * points * v_stride + c / width * pitch, v_stride, pitch, tiles,
                 count, u.data(), stride, lanes_of(panel), c > 0, products.data(), products_stride);
      }
      write_panel(writer, group, panel, 0, tiles, products.data(), products_stride, space.data());
    }
  });
}

template <class T>
void Winograd<T>::run(const ConvImages<const T>& from, const Finish<T>& finish,
                      const ConvImages<T>& to) const {
  if (grid_.count() == 0) return;
  const TileReader<T> reader{kernels_,   form_.input, from,   form_.points,
                             form_.step, p_.top,      p_.left};
  const TileWriter<T> writer{kernels_, to, form_.outputs, p_.crop_top, p_.crop_left, finish};
  if (few_)
    run_shared(reader, writer);
  else
    run_blocks(reader, writer);
}

template <class T>
ConvImages<const T> Winograd<T>::source(const T* from) const {
  return {from, p_.groups * p_.channels, p_.in_h, p_.in_w};
}

template <class T>
ConvImages<T> Winograd<T>::target(T* to) const {
  return {to, p_.groups * p_.outputs, p_.out_h, p_.out_w};
}

template class Winograd<float>;
template class Winograd<double>;

}  // namespace cnncore
