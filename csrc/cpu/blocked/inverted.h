// Two or three layers in one: the inverted residual block of MobileNetV2.
//
//   e = f(W1 * x + b1)            1 x 1, C -> E channels      "expand"; may be missing: e = x
//   d = g(w2 *  e + b2)           k x k, depthwise            "filter"
//   y = h(W3 * d + b3 + r)        1 x 1, E -> O channels      "project"; may be missing: y = d
//
// e is several times as large as x and y. Here it never exists as a whole: a task takes some rows
// of d and computes the rows of e they need one panel of channels at a time, in the second-level
// cache. The rows that two tasks share are computed twice.
//
// Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018,
// section 5.
#pragma once

#include <vector>

#include "cpu/blocked/layout.h"
#include "cpu/conv/kept.h"

namespace cnncore {

struct InvertedShape {
  index_t channels;  // C
  ConvShape filter;  // E channels, E groups, E outputs
  index_t outputs;   // O; 0: nothing is projected
  bool expands;      // or x has E channels

  index_t expanded() const { return filter.channels; }
  bool projects() const { return outputs > 0; }
  ConvShape expand() const;
  ConvShape project() const;
};

// How a layer is cut into tasks: by shapes only.
struct InvertedTasks {
  index_t rows;    // of d in a task, at most
  index_t bands;   // tasks down a plane
  index_t panels;  // of e in a task; fewer than all only where nothing is projected
  index_t groups;  // tasks across the panels
  index_t step;    // rows of d at a time
  index_t kept;    // panels of e at a time: all where they roll, else one
  index_t joined;  // panels of d that are projected together

  index_t count(index_t images) const { return images * bands * groups; }
};

template <class T>
class BlockedInverted {
 public:
  using Element = T;

  // weights (E, C), (E, 1, KH, KW), (O, E) or null where that part is missing; a bias may be null
  BlockedInverted(const InvertedShape& shape, const T* expand, const T* expand_bias,
                  const T* filter, const T* filter_bias, const T* project, const T* project_bias);

  // Whether it is expected to be faster than one layer after the other.
  static bool pays(const InvertedShape& shape);

  // `f`, `g` have no residual.
  void run(const T* x, const Finish<T>& f, const Finish<T>& g, const Finish<T>& h, T* y) const;

  BlockedShape source() const;
  BlockedShape target() const;
  std::size_t bytes() const;

 private:
  struct Work;  // what one thread needs
  struct Rows {
    index_t first, last;   // of d
    index_t above, below;  // of e, which they read
  };

  Rows rows_of(index_t first, index_t last) const;
  // `before`: the rows that the task has had last.
  void run_rows(const Work& work, index_t image, index_t group, const Rows& rows,
                const Rows& before) const;
  void expand_panel(const Work& work, index_t image, index_t panel, index_t first, index_t last,
                    T* e) const;
  void filter_panel(const Work& work, index_t panel, const Rows& rows, const T* e, index_t e_plane,
                    T* d, index_t d_plane) const;
  void project_panels(const Work& work, index_t image, index_t begin, index_t end,
                      const Rows& rows) const;

  index_t panels() const { return kernels_.panels(s_.expanded()); }
  index_t lanes_of(index_t panel) const { return kernels_.lanes(panel, s_.expanded()); }
  const TileKernels<T>& kernels_;
  InvertedShape s_;
  InvertedTasks tasks_;
  Kept<T> expand_, expand_bias_, filter_, filter_bias_, project_, project_bias_;
  index_t e_plane_, d_plane_;            // elements of one block of e and d in a task
  std::vector<index_t> pixels_;          // offsets of neighbouring pixels
  std::vector<index_t> depth_, middle_;  // offsets of channels in x, in panels of d
};

}  // namespace cnncore
