#include "cpu/blocked/inverted.h"

#include <algorithm>

#include "cnncore/check.h"
#include "cnncore/threads.h"
#include "cpu/blocked/finish.h"
#include "cpu/conv/panels.h"
#include "cpu/gemm.h"
#include "cpu/isa/blocked.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 8;       // wanted
constexpr index_t kLeastTasks = 4;  // or the layers run one after the other
constexpr index_t kShare = 6;       // a task computes at most a sixth of its rows of e twice
constexpr index_t kCacheBytes = 640 << 10;   // of the second-level cache, for e and d of a task
constexpr index_t kJoinedBytes = 192 << 10;  // of them for d

index_t panel_row_bytes(index_t width, index_t panel, index_t element) {
  return max_of(1, width * panel * element);
}

// Rows of the plane of e that `rows` rows of d read.
index_t rows_read(const Window1d& h, index_t rows) {
  return (rows - 1) * h.stride + h.extent();
}

InvertedTasks tasks_of(const InvertedShape& s, index_t panel, index_t element) {
  const ConvShape& f = s.filter;
  const Window1d& h = f.window.h;
  const index_t rows = f.oh(), panels = ceil_div(s.expanded(), panel);
  const index_t groups = s.projects() ? 1 : panels;
  const index_t bytes = panel_row_bytes(f.width, panel, element);
  const index_t most = max_of(1, (kCacheBytes / bytes - h.extent()) / h.stride + 1);
  const index_t least = max_of(1, kShare * (h.extent() - h.stride) / h.stride);
  const index_t wanted = ceil_div(rows, ceil_div(kTasks, max_of(1, f.images * groups)));
  InvertedTasks tasks{};
  tasks.bands = ceil_div(rows, max_of(1, min_of(most, max_of(wanted, least))));
  tasks.rows = ceil_div(rows, tasks.bands);
  tasks.groups = groups;
  tasks.panels = ceil_div(panels, groups);
  return tasks;
}

// `count` elements, or none, and zeros up to the end.
template <class T>
void fill(Kept<T>& kept, const T* from, index_t count) {
  std::fill_n(kept.data(), kept.bytes() / sizeof(T), T(0));
  if (from != nullptr) std::copy_n(from, count, kept.data());
}

}  // namespace

ConvShape InvertedShape::expand() const {
  return {filter.images, channels, filter.height, filter.width, expanded(), 1, {{1}, {1}}};
}

ConvShape InvertedShape::project() const {
  return {filter.images, expanded(), filter.oh(), filter.ow(), outputs, 1, {{1}, {1}}};
}

template <class T>
bool BlockedInverted<T>::pays(const InvertedShape& s) {
  const ConvShape& f = s.filter;
  const index_t panel = tile_kernels<T>().panel_columns(), element = sizeof(T);
  const InvertedTasks tasks = tasks_of(s, panel, element);
  const index_t read = rows_read(f.window.h, tasks.rows);
  const bool once = tasks.bands == 1 || (read - tasks.rows * f.window.h.stride) * kShare <=
                                            tasks.rows * f.window.h.stride;
  return tasks.count(f.images) >= kLeastTasks && once &&
         read * panel_row_bytes(f.width, panel, element) <= 2 * kCacheBytes;
}

template <class T>
BlockedInverted<T>::BlockedInverted(const InvertedShape& shape, const T* expand,
                                    const T* expand_bias, const T* filter, const T* filter_bias,
                                    const T* project, const T* project_bias)
    : kernels_(tile_kernels<T>()),
      s_(shape),
      tasks_(tasks_of(shape, kernels_.panel_columns(), sizeof(T))),
      expand_(forward_panels_size<T>(shape.expand())),
      expand_bias_(round_up(shape.expanded(), kernels_.panel_columns())),
      filter_(round_up(shape.expanded(), kernels_.panel_columns()) * shape.filter.taps()),
      filter_bias_(round_up(shape.expanded(), kernels_.panel_columns())),
      project_(shape.projects() ? forward_panels_size<T>(shape.project()) : 0),
      project_bias_(round_up(shape.outputs, kernels_.panel_columns())) {
  const index_t B = kernels_.width, taps = s_.filter.taps(), E = s_.expanded();
  pack_forward(s_.expand(), expand, expand_.data());
  fill(expand_bias_, expand_bias, E);
  fill(filter_bias_, filter_bias, E);
  fill(filter_, static_cast<const T*>(nullptr), 0);
  for (index_t c = 0; c < E; ++c)
    for (index_t t = 0; t < taps; ++t)
      filter_.data()[(c / B * taps + t) * B + c % B] = filter[c * taps + t];
  if (s_.projects()) {
    pack_forward(s_.project(), project, project_.data());
    fill(project_bias_, project_bias, s_.outputs);
  }

  const index_t in = rows_read(s_.filter.window.h, tasks_.rows) * s_.filter.width;
  const index_t out = tasks_.rows * s_.filter.ow();
  for (index_t i = 0; i < max_of(in, out); ++i) pixels_.push_back(i * B);
  const index_t plane = s_.filter.height * s_.filter.width * B;
  for (index_t c = 0; c < s_.channels; ++c) depth_.push_back(c / B * plane + c % B);
  const index_t bytes = panel_row_bytes(out, kernels_.panel_columns(), sizeof(T));
  joined_ = max_of(1, min_of(tasks_.panels, kJoinedBytes / bytes));
  for (index_t c = 0; c < joined_ * kernels_.panel_columns(); ++c)
    middle_.push_back(c / B * out * B + c % B);
}

template <class T>
struct BlockedInverted<T>::Work {
  const T* x;
  const Finish<T>&f, &g, &h;
  T* y;
  T *e, *d;  // rows of one panel of e; rows of `joined_` panels of d
};

template <class T>
typename BlockedInverted<T>::Band BlockedInverted<T>::band_of(index_t band) const {
  const Window1d& h = s_.filter.window.h;
  const index_t rows = s_.filter.oh();
  const index_t first = rows * band / tasks_.bands, last = rows * (band + 1) / tasks_.bands;
  const index_t above = min_of(s_.filter.height, max_of(0, h.input(first, 0)));
  const index_t below = min_of(s_.filter.height, h.input(last - 1, h.kernel - 1) + 1);
  return {first, last, above, max_of(above, below)};
}

template <class T>
void BlockedInverted<T>::expand_panel(const Work& work, index_t image, index_t panel,
                                      const Band& band) const {
  const index_t B = kernels_.width, lanes = lanes_of(panel), columns = kernels_.panel_columns();
  const index_t pixels = (band.below - band.above) * s_.filter.width;
  const Limits<T> limits(work.f);
  const T* const source =
      work.x +
      (image * round_up(s_.channels, B) * s_.filter.height + band.above * B) * s_.filter.width;
  const TileArgs<T> args{source,
                         pixels_.data(),
                         depth_.data(),
                         s_.channels,
                         expand_.data() + panel * columns * s_.channels,
                         nullptr,
                         0,
                         false};
  const StoreArgs<T> store{work.e,         nullptr,    expand_bias_.data() + panel * columns,
                           pixels_.data(), pixels * B, limits.low,
                           limits.high,    false,      true};
  run_tiles(kernels_, args, store, pixels, lanes);
  if (limits.curve) finish_run<T>(work.f, nullptr, work.e, pixels * lanes);
}

template <class T>
void BlockedInverted<T>::filter_panel(const Work& work, index_t panel, const Band& band, T* d,
                                      index_t d_plane) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, columns = kernels_.panel_columns();
  const index_t e_plane = (band.below - band.above) * f.width * B;
  const Limits<T> limits(work.g);
  for (index_t b = 0; b < lanes_of(panel) / B; ++b) {
    const index_t channel = panel * columns + b * B;
    // The rows are counted from that of the whole plane.
    blocked_loops<T>().depthwise({f.window, f.height, f.width, f.ow(), band.first, band.last,
                                  work.e + b * e_plane - band.above * f.width * B, d + b * d_plane},
                                 {nullptr, filter_bias_.data() + channel, limits.low, limits.high},
                                 filter_.data() + channel * f.taps());
    if (limits.curve)
      finish_run<T>(work.g, nullptr, d + b * d_plane, (band.last - band.first) * f.ow() * B);
  }
}

// Adds the products of the panels begin..end of d.
template <class T>
void BlockedInverted<T>::project_panels(const Work& work, index_t image, index_t begin, index_t end,
                                        const Band& band) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, columns = kernels_.panel_columns(), E = s_.expanded();
  const index_t depth = min_of(E, end * columns) - begin * columns;
  const index_t plane = f.oh() * f.ow() * B, pixels = (band.last - band.first) * f.ow();
  const Limits<T> limits(work.h);
  const bool finish = end == panels();
  for (index_t q = 0; q < kernels_.panels(s_.outputs); ++q) {
    const index_t lanes = kernels_.lanes(q, s_.outputs);
    const index_t offset =
        image * round_up(s_.outputs, B) * f.oh() * f.ow() + 2 * q * plane + band.first * f.ow() * B;
    const TileArgs<T> args{work.d,
                           pixels_.data(),
                           middle_.data(),
                           depth,
                           project_.data() + q * columns * E + begin * columns * lanes,
                           nullptr,
                           0,
                           false};
    const StoreArgs<T> store{work.y + offset,
                             work.h.residual != nullptr ? work.h.residual + offset : nullptr,
                             project_bias_.data() + q * columns,
                             pixels_.data(),
                             plane,
                             limits.low,
                             limits.high,
                             begin > 0,
                             finish};
    run_tiles(kernels_, args, store, pixels, lanes);
    for (index_t b = 0; b < lanes / B && limits.curve && finish; ++b)
      finish_run<T>(work.h, nullptr, work.y + offset + b * plane, pixels * B);
  }
}

template <class T>
void BlockedInverted<T>::run_task(const Work& work, index_t image, index_t number,
                                  index_t group) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, rows = f.oh();
  const Band band = band_of(number);
  const index_t begin = group * tasks_.panels, end = min_of(panels(), begin + tasks_.panels);
  const index_t y_plane = rows * f.ow() * B, d_plane = tasks_.rows * f.ow() * B;
  index_t joined = begin;
  for (index_t p = begin; p < end; ++p) {
    expand_panel(work, image, p, band);
    if (!s_.projects()) {
      const index_t block = image * ceil_div(s_.expanded(), B) + 2 * p;
      filter_panel(work, p, band, work.y + block * y_plane + band.first * f.ow() * B, y_plane);
      continue;
    }
    filter_panel(work, p, band, work.d + 2 * (p - joined) * d_plane, d_plane);
    if (p + 1 - joined < joined_ && p + 1 < end) continue;
    project_panels(work, image, joined, p + 1, band);
    joined = p + 1;
  }
}

template <class T>
void BlockedInverted<T>::run(const T* x, const Finish<T>& f, const Finish<T>& g, const Finish<T>& h,
                             T* y) const {
  const ConvShape& s = s_.filter;
  const index_t columns = kernels_.panel_columns();
  const index_t e_size = rows_read(s.window.h, tasks_.rows) * s.width * columns;
  const index_t d_size = s_.projects() ? joined_ * tasks_.rows * s.ow() * columns : 0;
  parallel_for(tasks_.count(s.images), 1, [&](index_t begin, index_t end) {
    const Scratch<T> space(e_size + d_size);
    const Work work{x, f, g, h, y, space.data(), space.data() + e_size};
    for (index_t task = begin; task < end; ++task)
      run_task(work, task / (tasks_.bands * tasks_.groups), task / tasks_.groups % tasks_.bands,
               task % tasks_.groups);
  });
}

template <class T>
BlockedShape BlockedInverted<T>::source() const {
  return {s_.filter.images, s_.channels, s_.filter.height, s_.filter.width};
}

template <class T>
BlockedShape BlockedInverted<T>::target() const {
  return {s_.filter.images, s_.projects() ? s_.outputs : s_.expanded(), s_.filter.oh(),
          s_.filter.ow()};
}

template <class T>
std::size_t BlockedInverted<T>::bytes() const {
  return expand_.bytes() + expand_bias_.bytes() + filter_.bytes() + filter_bias_.bytes() +
         project_.bytes() + project_bias_.bytes();
}

template class BlockedInverted<float>;
template class BlockedInverted<double>;

}  // namespace cnncore
