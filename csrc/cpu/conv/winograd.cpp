#include "cpu/conv/winograd.h"

#include <algorithm>
#include <utility>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/threads.h"

namespace cnncore {
namespace {

constexpr index_t kBlockProducts = 2016;     // of a block: 56 tiles of 36, 28 of 64
constexpr index_t kBlockTiles = 56;          // four micro-kernel tiles of 14 rows
constexpr index_t kFewTiles = 100;           // up to here U is larger than V and M,
constexpr index_t kFewProducts = 3600;       // while M of a panel fits the second-level cache
constexpr index_t kFilterBytes = 256 << 10;  // of U that a task of few tiles makes at a time

// As many tiles a block as wanted, but an even number of blocks: two threads share them evenly.
index_t block_tiles(index_t tiles, index_t products) {
  const index_t most = min_of(kBlockTiles, kBlockProducts / products);
  return ceil_div(tiles, round_up(ceil_div(tiles, most), 2));
}

bool few_tiles(index_t tiles, index_t products) {
  return tiles <= kFewTiles && tiles * products <= kFewProducts;
}

}  // namespace

bool winograd_serves(const ConvShape& s, ConvDirection) {
  const Window1d &h = s.window.h, &w = s.window.w;
  return h.kernel == 3 && w.kernel == 3 && h.stride == 1 && w.stride == 1 &&
         h.dilation == w.dilation && h.dilation <= kMaxDilation;
}

bool winograd_phases_serve(const ConvShape& s, ConvDirection) {
  const Window1d &h = s.window.h, &w = s.window.w;
  return h.kernel == w.kernel && (h.kernel == 3 || h.kernel == 4) && h.stride == 2 &&
         w.stride == 2 && h.dilation == 1 && w.dilation == 1;
}

WinogradProblem winograd_problem(const ConvShape& s, ConvDirection direction, index_t m) {
  const Window1d &h = s.window.h, &w = s.window.w;
  WinogradProblem p{s.images, s.groups, s.group_channels(), s.group_outputs(), s.height, s.width,
                    s.oh(),   s.ow(),   h.before,           w.before,          m};
  p.in_stride = h.stride;
  p.dilation = h.dilation;
  if (direction != ConvDirection::input) return p;
  std::swap(p.channels, p.outputs);
  std::swap(p.in_h, p.out_h);
  std::swap(p.in_w, p.out_w);
  std::swap(p.in_stride, p.out_stride);
  p.top = 2 * h.dilation - h.before;
  p.left = 2 * w.dilation - w.before;
  if (h.stride == 2) {
    // Where three taps are four of which the first is zero, the results 2 t and 2 t + 1 of either
    // kernel, counted from the padding's edge, read the pixels t - 1 and t.
    const index_t above = h.before + 4 - h.kernel, before = w.before + 4 - w.kernel;
    p.top = 1 - above / 2;
    p.left = 1 - before / 2;
    p.crop_top = above % 2;
    p.crop_left = before % 2;
  }
  return p;
}

template <class T>
const WinogradForm<T>& winograd_form(const ConvShape& s, index_t m) {
  const WinogradKernels<T>& kernels = winograd_kernels<T>();
  if (s.window.h.stride == 2) return kernels.phases[m - 3][s.window.h.kernel - 3];
  return m == 4 ? kernels.four : kernels.two;
}

namespace {

// Pixels of a tile along an axis.
template <class T>
index_t extent_of(const WinogradForm<T>& form, const WinogradProblem& p) {
  return p.sources() > 1 ? 2 * (p.m - 1) + form.taps : p.dilation * form.points;
}

}  // namespace

template <class T>
TileReader<T> winograd_reader(const WinogradForm<T>& form, const WinogradProblem& p,
                              const ConvImages<const T>& images) {
  const bool split = p.sources() > 1;
  return {winograd_kernels<T>(),
          split ? form.phase_input : &form.input,
          split ? kWinogradPhases : nullptr,
          split ? p.in_stride : p.dilation,
          images,
          extent_of(form, p),
          p.read_step(),
          p.top,
          p.left};
}

template <class T>
index_t winograd_space(const WinogradForm<T>& form, const WinogradProblem& p) {
  const index_t rows = max_of(extent_of(form, p), p.write_step());
  const index_t columns = (p.grid().run - 1) * max_of(p.read_step(), p.write_step()) + rows;
  return rows * columns * winograd_kernels<T>().width;
}

template <class T>
Winograd<T>::Winograd(const ConvShape& shape, ConvDirection direction, index_t m, const T* weight,
                      const T* bias, Weights weights)
    : kernels_(winograd_kernels<T>()),
      tiles_(tile_kernels<T>()),
      form_(winograd_form<T>(shape, m)),
      p_(winograd_problem(shape, direction, m)),
      direction_(direction),
      grid_(p_.grid()),
      few_(few_tiles(p_.lattices() * grid_.count(), rows())),
      borrowed_(weight),
      weight_size_(shape.weight_size()),
      kept_size_(
          few_ ? (weights == Weights::borrow
                      ? 0
                      : checked_product(p_.groups, vectors(), p_.channels * taps(), kernels_.width))
               : checked_product(p_.groups, panels(), rows(), u_stride())),
      kept_(kept_size_),
      bias_(p_.groups * vectors() * kernels_.width) {
  const index_t width = kernels_.width, padded = vectors() * width;
  for (index_t g = 0; g < p_.groups; ++g)
    for (index_t o = 0; o < padded; ++o)
      bias_.data()[g * padded + o] =
          bias != nullptr && o < p_.outputs ? bias[g * p_.outputs + o] : T(0);
  if (few_ && weights == Weights::borrow) return;
  const index_t work = rows() * u_stride();
  parallel_for(p_.groups * panels(), grain_for(work), [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t g = i / panels(), panel = i % panels();
      if (!few_) {
        transform_panel(g, panel, 0, p_.channels, kept_.data() + i * rows() * u_stride(),
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
  all.flip = !forward;
  return all;
}

// U of one panel for `count` channels from `first`: of result phase p u[(p * n * n + e) * stride +
// k
// * lanes], of pixel phase p u[e * stride + (p * count + k) * lanes].
template <class T>
void Winograd<T>::transform_panel(index_t group, index_t panel, index_t first, index_t count, T* u,
                                  index_t stride) const {
  const index_t width = kernels_.width, lanes = lanes_of(panel);
  const index_t phase = p_.sources() > 1 ? count * lanes : points() * stride;
  for (index_t v = 0; v < lanes; v += width) {
    const index_t o = panel * tiles_.panel_columns() + v;
    if (borrowed_ != nullptr)
      form_.weights(filters(group).at(o, first, max_of(0, min_of(width, p_.outputs - o))), count,
                    u + v, stride, lanes, phase);
    else
      form_.packed_weights(
          kept_.data() + ((group * vectors() + o / width) * p_.channels + first) * taps() * width,
          taps() * width, count, u + v, stride, lanes, phase);
  }
}

// products[e] (+)= v[e] u[e] for all points e, of all phases together where the pixels have them,
// of each where the results do. v has vectors of channels `v_pitch` elements apart, and its phases
// as far apart as those of all channels.
template <class T>
void Winograd<T>::multiply(const T* v, index_t v_stride, index_t v_pitch, index_t tiles,
                           index_t channels, const T* u, index_t u_stride, index_t lanes,
                           bool accumulate, T* products, index_t products_stride) const {
  const index_t width = kernels_.width, sources = p_.sources();
  Scratch<index_t> tables(tiles + sources * channels);
  index_t* const depth = tables.data() + tiles;
  for (index_t t = 0; t < tiles; ++t) tables[t] = t * width;
  index_t* next = depth;
  for (index_t source = 0; source < sources; ++source)
    for (index_t c = 0; c < channels; c += width)
      for (index_t lane = 0; lane < min_of(width, channels - c); ++lane)
        *next++ = (source * channel_vectors() + c / width) * v_pitch + lane;
  for (index_t row = 0; row < rows(); ++row) {
    const auto phases = form_.phases_at(static_cast<int>(row % points()));
    const index_t target = row / points(), first = sources > 1 ? phases.first * channels : 0;
    if (sources == 1 && (target < phases.first || target >= phases.last)) continue;
    const index_t count = sources > 1 ? (phases.last - phases.first) * channels : channels;
    run_tiles(tiles_,
              TileArgs<T>{v + row % points() * v_stride, tables.data(), depth + first, count,
                          u + row * u_stride + first * lanes, products + row * products_stride,
                          lanes, accumulate},
              tiles, lanes);
  }
}

template <class T>
void Winograd<T>::write_panel(const TileWriter<T>& writer, index_t group, index_t panel,
                              index_t first_tile, index_t last_tile, const T* products,
                              index_t stride, T* space) const {
  const index_t width = kernels_.width, lanes = lanes_of(panel);
  const index_t first = panel * tiles_.panel_columns();
  const index_t d = p_.dilation, tiles = last_tile - first_tile;
  grid_.for_runs(first_tile, last_tile, [&](const TileRun& run, index_t before) {
    // Between the columns of one lattice are those of the others: none may be overwritten.
    const index_t pitch = d > 1 ? run.tiles * p_.write_step() : writer.columns(run);
    const auto output = p_.targets() > 1 ? form_.phase_output : form_.output;
    for (index_t v = 0; v < lanes; v += width) {
      for (index_t q = 0; q < p_.lattices(); ++q)
        output(products + (q * tiles + before) * lanes + v, stride, lanes, run.tiles,
               bias_.data() + group * vectors() * width + first + v,
               space + (q / d * pitch + q % d) * width, d * pitch * width, d * width);
      writer.write(run, group * p_.outputs + first + v, min_of(width, p_.outputs - first - v),
                   space, pitch);
    }
  });
}

template <class T>
void Winograd<T>::run_blocks(const TileReader<T>& reader, const TileWriter<T>& writer) const {
  const index_t width = kernels_.width;
  const index_t block = block_tiles(grid_.count(), p_.lattices() * form_.products()),
                blocks = ceil_div(grid_.count(), block);
  const index_t pitch = p_.lattices() * block * width;
  const index_t v_stride = odd_lines<T>(p_.sources() * channel_vectors() * pitch);
  const index_t products_stride = odd_lines<T>(p_.lattices() * block * tiles_.panel_columns());
  parallel_for(p_.groups * blocks, 1, [&](index_t begin, index_t end) {
    Scratch<T> v(points() * v_stride), products(rows() * products_stride);
    Scratch<T> space(winograd_space(form_, p_));
    for (index_t task = begin; task < end; ++task) {
      const index_t group = task % p_.groups, first = task / p_.groups * block;
      const index_t last = min_of(grid_.count(), first + block);
      for (index_t c = 0; c < p_.channels; c += width)
        grid_.for_runs(first, last, [&](const TileRun& run, index_t before) {
          reader.read(run, group * p_.channels + c, min_of(width, p_.channels - c), space.data(),
                      v.data() + c / width * pitch + before * width, v_stride, width,
                      p_.sources() > 1 ? channel_vectors() * pitch : (last - first) * width);
        });
      for (index_t panel = 0; panel < panels(); ++panel) {
        multiply(v.data(), v_stride, pitch, p_.lattices() * (last - first), p_.channels,
                 kept_.data() + (group * panels() + panel) * rows() * u_stride(), u_stride(),
                 lanes_of(panel), false, products.data(), products_stride);
        write_panel(writer, group, panel, first, last, products.data(), products_stride,
                    space.data());
      }
    }
  });
}

template <class T>
void Winograd<T>::run_shared(const TileReader<T>& reader, const TileWriter<T>& writer) const {
  const index_t width = kernels_.width, tiles = p_.lattices() * grid_.count();
  const index_t pitch = tiles * width;
  const index_t phase = p_.sources() > 1 ? channel_vectors() * pitch : grid_.count() * width;
  const index_t v_stride = odd_lines<T>(p_.sources() * channel_vectors() * pitch);
  Scratch<T> v(checked_product(p_.groups, points(), v_stride));
  const index_t vectors = channel_vectors(), lines = grid_.images * grid_.rows;
  parallel_for(p_.groups * vectors * lines,
               grain_for(grid_.columns * p_.sources() * p_.lattices() * points() * width * 4),
               [&](index_t begin, index_t end) {
                 Scratch<T> space(winograd_space(form_, p_));
                 for (index_t i = begin; i < end; ++i) {
                   const index_t group = i / lines / vectors, c = i / lines % vectors * width;
                   const index_t first = i % lines * grid_.columns;
                   T* const to = v.data() + group * points() * v_stride + c * tiles + first * width;
                   grid_.for_runs(
                       first, first + grid_.columns, [&](const TileRun& run, index_t before) {
                         reader.read(run, group * p_.channels + c, min_of(width, p_.channels - c),
                                     space.data(), to + before * width, v_stride, width, phase);
                       });
                 }
               });

  const index_t bytes =
      rows() * p_.sources() * tiles_.panel_columns() * static_cast<index_t>(sizeof(T));
  const index_t some = min_of(p_.channels, round_up(kFilterBytes / bytes, width));
  const index_t stride = odd_lines<T>(p_.sources() * some * tiles_.panel_columns());
  const index_t products_stride = odd_lines<T>(tiles * tiles_.panel_columns());
  parallel_for(p_.groups * panels(), 1, [&](index_t begin, index_t end) {
    Scratch<T> u(rows() * stride), products(rows() * products_stride);
    Scratch<T> space(winograd_space(form_, p_));
    for (index_t i = begin; i < end; ++i) {
      const index_t group = i / panels(), panel = i % panels();
      for (index_t c = 0; c < p_.channels; c += some) {
        const index_t count = min_of(some, p_.channels - c);
        transform_panel(group, panel, c, count, u.data(), stride);
        multiply(v.data() + group * points() * v_stride + c / width * pitch, v_stride, pitch, tiles,
                 count, u.data(), stride, lanes_of(panel), c > 0, products.data(), products_stride);
      }
      write_panel(writer, group, panel, 0, grid_.count(), products.data(), products_stride,
                  space.data());
    }
  });
}

template <class T>
void Winograd<T>::run(const ConvImages<const T>& from, const Finish<T>& finish,
                      const ConvImages<T>& to) const {
  if (grid_.count() == 0) return;
  const TileReader<T> reader = winograd_reader(form_, p_, from);
  const TileWriter<T> writer{kernels_, to, p_.write_step(), p_.crop_top, p_.crop_left, finish};
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

#define CNNCORE_INSTANTIATE(T)                                                           \
  template const WinogradForm<T>& winograd_form<T>(const ConvShape&, index_t);           \
  template TileReader<T> winograd_reader(const WinogradForm<T>&, const WinogradProblem&, \
                                         const ConvImages<const T>&);                    \
  template index_t winograd_space(const WinogradForm<T>&, const WinogradProblem&);       \
  template class Winograd<T>
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
