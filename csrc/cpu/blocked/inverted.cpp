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

// The rules of how a layer is cut, all of them. Caches: 1 MiB of second level, some of it for
// weights.
constexpr index_t kTasks = 8;                 // wanted
constexpr index_t kLeastTasks = 4;            // or the layers run one after the other
constexpr index_t kShare = 6;                 // a task computes at most a sixth of its e twice
constexpr index_t kCacheBytes = 640 << 10;    // for one panel of e in a task
constexpr index_t kJoinedBytes = 192 << 10;   // for the panels of d that are projected together
constexpr index_t kRollingBytes = 448 << 10;  // for all panels of e and d, where they roll, …
constexpr index_t kRollingWeights = 160
                                    << 10;  // … which reads all weights again for every few rows

// Rows of the plane of e that `rows` rows of d read.
index_t rows_read(const Window1d& h, index_t rows) {
  return (rows - 1) * h.stride + h.extent();
}

InvertedTasks tasks_of(const InvertedShape& s, index_t panel, index_t element) {
  const ConvShape& f = s.filter;
  const Window1d& h = f.window.h;
  const index_t rows = f.oh(), panels = ceil_div(s.expanded(), panel);
  const index_t e_row = s.expands ? max_of(1, f.width * panel * element) : 1;
  const index_t d_row = max_of(1, f.ow() * panel * element);
  InvertedTasks tasks{};
  tasks.groups = s.projects() ? 1 : panels;
  tasks.panels = ceil_div(panels, tasks.groups);

  // A task's rows: as few as make tasks enough, as many as little is computed twice.
  const index_t wanted = ceil_div(rows, ceil_div(kTasks, max_of(1, f.images * tasks.groups)));
  const index_t least = s.expands ? max_of(1, kShare * (h.extent() - h.stride) / h.stride) : 1;
  tasks.rows = min_of(rows, max_of(wanted, least));

  const index_t all = s.expanded() * (s.channels + s.outputs) * element;
  const index_t rolling =
      (kRollingBytes / panels - (h.extent() - h.stride) * e_row) / (h.stride * e_row + d_row);
  if (s.projects() && panels > 1 && s.expands && rolling >= 1 && all <= kRollingWeights) {
    tasks.step = min_of(rolling, tasks.rows);
    tasks.joined = panels;
  } else {
    const index_t fits =
        s.expands ? (kCacheBytes / e_row - h.extent()) / h.stride + 1 : kJoinedBytes / d_row;
    tasks.rows = max_of(1, min_of(fits, tasks.rows));
    tasks.step = tasks.rows;
    tasks.joined = max_of(1, min_of(tasks.panels, kJoinedBytes / (tasks.rows * d_row)));
  }
  tasks.bands = ceil_div(rows, tasks.rows);
  tasks.rows = ceil_div(rows, tasks.bands);
  tasks.step = ceil_div(tasks.rows, ceil_div(tasks.rows, tasks.step));
  tasks.kept = tasks.step < tasks.rows ? tasks.panels : 1;
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
  const Window1d& h = s.filter.window.h;
  const InvertedTasks tasks = tasks_of(s, tile_kernels<T>().panel_columns(), sizeof(T));
  const index_t twice = (h.extent() - h.stride) * (tasks.bands - 1);
  return tasks.count(s.filter.images) >= kLeastTasks &&
         (!s.expands || twice * kShare <= tasks.bands * tasks.rows * h.stride);
}

template <class T>
BlockedInverted<T>::BlockedInverted(const InvertedShape& shape, const T* expand,
                                    const T* expand_bias, const T* filter, const T* filter_bias,
                                    const T* project, const T* project_bias)
    : kernels_(tile_kernels<T>()),
      s_(shape),
      tasks_(tasks_of(shape, kernels_.panel_columns(), sizeof(T))),
      expand_(shape.expands ? forward_panels_size<T>(shape.expand()) : 0),
      expand_bias_(round_up(shape.expanded(), kernels_.panel_columns())),
      filter_(round_up(shape.expanded(), kernels_.panel_columns()) * shape.filter.taps()),
      filter_bias_(round_up(shape.expanded(), kernels_.panel_columns())),
      project_(shape.projects() ? forward_panels_size<T>(shape.project()) : 0),
      project_bias_(round_up(shape.outputs, kernels_.panel_columns())) {
  const index_t B = kernels_.width, taps = s_.filter.taps(), E = s_.expanded();
  if (s_.expands) pack_forward(s_.expand(), expand, expand_.data());
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

  const index_t in = rows_read(s_.filter.window.h, tasks_.step) * s_.filter.width;
  const index_t out = tasks_.step * s_.filter.ow();
  e_plane_ = in * B;
  d_plane_ = out * B;
  for (index_t i = 0; i < max_of(in, out); ++i) pixels_.push_back(i * B);
  const index_t plane = s_.filter.height * s_.filter.width * B;
  for (index_t c = 0; c < s_.channels; ++c) depth_.push_back(c / B * plane + c % B);
  for (index_t c = 0; c < tasks_.joined * kernels_.panel_columns(); ++c)
    middle_.push_back(c / B * d_plane_ + c % B);
}

template <class T>
struct BlockedInverted<T>::Work {
  const T* x;
  const Finish<T>&f, &g, &h;
  T* y;
  T *e, *d;  // `kept` panels of e; `joined` panels of d
};

template <class T>
typename BlockedInverted<T>::Rows BlockedInverted<T>::rows_of(index_t first, index_t last) const {
  const Window1d& h = s_.filter.window.h;
  const index_t above = min_of(s_.filter.height, max_of(0, h.input(first, 0)));
  const index_t below = min_of(s_.filter.height, h.input(last - 1, h.kernel - 1) + 1);
  return {first, last, above, max_of(above, below)};
}

// The rows first..last of one panel of e.
template <class T>
void BlockedInverted<T>::expand_panel(const Work& work, index_t image, index_t panel, index_t first,
                                      index_t last, T* e) const {
  const index_t B = kernels_.width, lanes = lanes_of(panel), columns = kernels_.panel_columns();
  const index_t pixels = (last - first) * s_.filter.width;
  const Limits<T> limits(work.f);
  const T* const source =
      work.x + (image * round_up(s_.channels, B) * s_.filter.height + first * B) * s_.filter.width;
  const TileArgs<T> args{source,
                         pixels_.data(),
                         depth_.data(),
                         s_.channels,
                         expand_.data() + panel * columns * s_.channels,
                         nullptr,
                         0,
                         false};
  const StoreArgs<T> store{e,
                           nullptr,
                           expand_bias_.data() + panel * columns,
                           pixels_.data(),
                           e_plane_,
                           limits.low,
                           limits.high,
                           false,
                           true};
  run_tiles(kernels_, args, store, pixels, lanes);
  for (index_t b = 0; b < lanes / B && limits.curve; ++b)
    finish_run<T>(work.f, nullptr, e + b * e_plane_, pixels * B);
}

// `e`: the planes of the panel's blocks as if they began with row 0.
template <class T>
void BlockedInverted<T>::filter_panel(const Work& work, index_t panel, const Rows& rows, const T* e,
                                      index_t e_plane, T* d, index_t d_plane) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, columns = kernels_.panel_columns();
  const Limits<T> limits(work.g);
  for (index_t b = 0; b < lanes_of(panel) / B; ++b) {
    const index_t channel = panel * columns + b * B;
    blocked_loops<T>().depthwise({f.window, f.height, f.width, f.ow(), rows.first, rows.last,
                                  e + b * e_plane, d + b * d_plane},
                                 {nullptr, filter_bias_.data() + channel, limits.low, limits.high},
                                 filter_.data() + channel * f.taps());
    if (limits.curve)
      finish_run<T>(work.g, nullptr, d + b * d_plane, (rows.last - rows.first) * f.ow() * B);
  }
}

// Adds the products of the panels begin..end of d.
template <class T>
void BlockedInverted<T>::project_panels(const Work& work, index_t image, index_t begin, index_t end,
                                        const Rows& rows) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, columns = kernels_.panel_columns(), E = s_.expanded();
  const index_t depth = min_of(E, end * columns) - begin * columns;
  const index_t plane = f.oh() * f.ow() * B, pixels = (rows.last - rows.first) * f.ow();
  const Limits<T> limits(work.h);
  const bool finish = end == panels();
  for (index_t q = 0; q < kernels_.panels(s_.outputs); ++q) {
    const index_t lanes = kernels_.lanes(q, s_.outputs);
    const index_t offset =
        image * round_up(s_.outputs, B) * f.oh() * f.ow() + 2 * q * plane + rows.first * f.ow() * B;
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
void BlockedInverted<T>::run_rows(const Work& work, index_t image, index_t group, const Rows& rows,
                                  const Rows& before) const {
  const ConvShape& f = s_.filter;
  const index_t B = kernels_.width, row = f.width * B, plane = f.height * row;
  const index_t begin = group * tasks_.panels, end = min_of(panels(), begin + tasks_.panels);
  const index_t blocks = ceil_div(s_.expanded(), B), y_plane = f.oh() * f.ow() * B;
  const index_t first = max_of(rows.above, before.below);  // of the rows of e that are not there
  index_t joined = begin;
  for (index_t p = begin; p < end; ++p) {
    T* const panel = work.e + (p - begin) % tasks_.kept * 2 * e_plane_;
    const T* e = panel - rows.above * row;
    if (s_.expands) {
      for (index_t b = 0; b < 2 && first > rows.above; ++b)
        std::copy_n(panel + b * e_plane_ + (rows.above - before.above) * row,
                    (first - rows.above) * row, panel + b * e_plane_);
      expand_panel(work, image, p, first, rows.below, panel + (first - rows.above) * row);
    } else {
      e = work.x + (image * blocks + 2 * p) * plane;
    }
    const index_t e_plane = s_.expands ? e_plane_ : plane;
    if (!s_.projects()) {
      T* const y = work.y + (image * blocks + 2 * p) * y_plane + rows.first * f.ow() * B;
      filter_panel(work, p, rows, e, e_plane, y, y_plane);
      continue;
    }
    filter_panel(work, p, rows, e, e_plane, work.d + 2 * (p - joined) * d_plane_, d_plane_);
    if (p + 1 - joined < tasks_.joined && p + 1 < end) continue;
    project_panels(work, image, joined, p + 1, rows);
    joined = p + 1;
  }
}

template <class T>
void BlockedInverted<T>::run(const T* x, const Finish<T>& f, const Finish<T>& g, const Finish<T>& h,
                             T* y) const {
  const index_t e_size = s_.expands ? tasks_.kept * 2 * e_plane_ : 0;
  const index_t d_size = s_.projects() ? tasks_.joined * 2 * d_plane_ : 0;
  const index_t rows = s_.filter.oh();
  parallel_for(tasks_.count(s_.filter.images), 1, [&](index_t begin, index_t end) {
    const Scratch<T> space(e_size + d_size);
    const Work work{x, f, g, h, y, space.data(), space.data() + e_size};
    for (index_t task = begin; task < end; ++task) {
      const index_t band = task / tasks_.groups % tasks_.bands;
      const index_t last = rows * (band + 1) / tasks_.bands;
      Rows before{0, 0, 0, 0};
      for (index_t row = rows * band / tasks_.bands; row < last; row += tasks_.step) {
        const Rows now = rows_of(row, min_of(last, row + tasks_.step));
        run_rows(work, task / (tasks_.bands * tasks_.groups), task % tasks_.groups, now, before);
        before = now;
      }
    }
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
