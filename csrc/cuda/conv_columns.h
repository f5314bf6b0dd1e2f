// Plain matrix products, and convolutions with the column matrix in memory: the second rung of the
// ladder.
#pragma once

#include "cuda/tile_launch.h"
#include "cuda/windows.h"

namespace cnncore::cuda {

template <class T>
bool aligned(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

template <class T>
TileCall<T> matrix_call(const MatrixPlan& p, bool tensor, const T* a, const T* b) {
  constexpr index_t vector = 16 / static_cast<index_t>(sizeof(T));
  const auto whole = [&](std::initializer_list<index_t> sizes) {
    for (index_t size : sizes)
      if (size % vector != 0) return false;
    return true;
  };
  TileCall<T> call;
  call.plan.direction = Direction::matrix;
  call.plan.matrix = p;
  call.a = a;
  call.b = b;
  call.b_along = p.b_depth == 1 && p.b_column != 1;
  call.a_vector =
      p.a_depth == 1 && aligned(a) && whole({p.k, p.a_row, p.a_run, p.a_outer, p.a_inner});
  call.b_vector =
      aligned(b) && whole({p.b_run, p.b_outer, p.b_inner}) &&
      (call.b_along ? whole({p.k, p.b_column}) : p.b_column == 1 && whole({p.n, p.b_depth}));
  call.tensor = tensor;
  return call;
}

// --- with the column matrix in memory ------------------------------------------------------------
// For all groups of some images at once: y = W cols, cols = Wᵀ y, gW = Σ gy colsᵀ.

constexpr index_t kColumnBytes = index_t{1} << 28;

// f(first image, images) for chunks whose columns, `elements` an image, take about kColumnBytes.
template <class T, class Function>
void each_chunk(const ConvShape& s, index_t elements, const Function& f) {
  const index_t bytes = max_of(1, elements * static_cast<index_t>(sizeof(T)));
  const index_t most = max_of(1, kColumnBytes / bytes);
  for (index_t n = 0; n < s.images; n += most) f(n, min_of(most, s.images - n));
}

template <class T>
T* take_columns(const ConvShape& s, index_t elements, Workspace& workspace) {
  index_t images = 0;
  each_chunk<T>(s, elements, [&](index_t, index_t count) { images = max_of(images, count); });
  return workspace.take<T>(images * elements);
}

template <class T>
void column_forward(const Queue& queue, const ConvShape& s, bool tensor, const T* x,
                    const T* weight, const Finishing<T>& finishing, T* y, Workspace& workspace) {
  const index_t pixels = s.oh() * s.ow(), depth = s.group_channels() * s.taps();
  const index_t columns = s.groups * depth * pixels, m = s.group_outputs();
  T* const cols = take_columns<T>(s, columns, workspace);
  each_chunk<T>(s, columns, [&](index_t n, index_t images) {
    if (!workspace.measuring())
      im2col(queue, x + n * s.channels * s.height * s.width, images * s.channels, s.height, s.width,
             s.window, cols);
    MatrixPlan p{m, pixels, depth, 1, images * s.groups, s.groups};
    p.a_row = depth;
    p.a_inner = m * depth;
    p.b_depth = pixels;
    p.b_outer = columns;
    p.b_inner = depth * pixels;
    p.c_row = pixels;
    p.c_outer = s.outputs * pixels;
    p.c_inner = m * pixels;
    p.bias_inner = m;
    TileCall<T> call = matrix_call<T>(p, tensor, weight, cols);
    const index_t begin = n * s.outputs * pixels;
    call.finishing = finishing;
    if (finishing.residual != nullptr) call.finishing.residual += begin;
    call.target = y + begin;
    call.target_size = images * s.outputs * pixels;
    call.plane = pixels;
    call.channels = s.outputs;
    multiply_tiles(queue, "conv2d", call, workspace);
  });
}

template <class T>
void column_transposed(const Queue& queue, const ConvShape& s, bool tensor, const T* y,
                       const T* weight, const Finishing<T>& finishing, T* x, Workspace& workspace) {
  const index_t pixels = s.oh() * s.ow(), depth = s.group_channels() * s.taps();
  const index_t columns = s.groups * depth * pixels, outputs = s.group_outputs();
  const index_t plane = s.height * s.width;
  T* const cols = take_columns<T>(s, columns, workspace);
  each_chunk<T>(s, columns, [&](index_t n, index_t images) {
    MatrixPlan p{depth, pixels, outputs, 1, images * s.groups, s.groups};
    p.a_row = 1;
    p.a_depth = depth;
    p.a_inner = outputs * depth;
    p.b_depth = pixels;
    p.b_outer = s.outputs * pixels;
    p.b_inner = outputs * pixels;
    p.c_row = pixels;
    p.c_outer = columns;
    p.c_inner = depth * pixels;
    TileCall<T> call = matrix_call<T>(p, tensor, weight, y + n * s.outputs * pixels);
    call.target = cols;
    call.target_size = images * columns;
    multiply_tiles(queue, "conv_transpose2d", call, workspace);
    if (workspace.measuring()) return;
    Finishing<T> rest = finishing;
    const index_t begin = n * s.channels * plane, count = images * s.channels * plane;
    if (rest.residual != nullptr) rest.residual += begin;
    for_each_index(queue, "conv_transpose2d", count, max_of(count, images * columns),
                   Col2Im<T>{cols,
                             x + begin,
                             {s.window.h, s.oh()},
                             {s.window.w, s.ow()},
                             s.height,
                             s.width,
                             s.channels,
                             rest});
  });
}

template <class T>
void column_weight(const Queue& queue, const ConvShape& s, bool tensor, const T* x, const T* gy,
                   T* gweight, Workspace& workspace) {
  using Sum = typename Computing<T>::type;
  const index_t pixels = s.oh() * s.ow(), depth = s.group_channels() * s.taps();
  const index_t columns = s.groups * depth * pixels, m = s.group_outputs();
  T* const cols = take_columns<T>(s, columns, workspace);
  index_t chunks = 0, done = 0;
  each_chunk<T>(s, columns, [&](index_t, index_t) { ++chunks; });
  Sum* const parts = workspace.take<Sum>(max_of(1, chunks) * s.weight_size());
  each_chunk<T>(s, columns, [&](index_t n, index_t images) {
    if (!workspace.measuring())
      im2col(queue, x + n * s.channels * s.height * s.width, images * s.channels, s.height, s.width,
             s.window, cols);
    MatrixPlan p{m, depth, pixels, images, s.groups, s.groups};
    p.a_row = pixels;
    p.a_run = s.outputs * pixels;
    p.a_inner = m * pixels;
    p.b_column = pixels;
    p.b_depth = 1;
    p.b_run = columns;
    p.b_inner = depth * pixels;
    p.c_row = depth;
    p.c_inner = m * depth;
    TileCall<T> call = matrix_call<T>(p, tensor, gy + n * s.outputs * pixels, cols);
    call.b_along = true;  // also where an output has one pixel
    call.target_size = s.weight_size();
    call.part = workspace.measuring() ? nullptr : parts + done++ * s.weight_size();
    if (!workspace.measuring()) multiply_tiles(queue, "conv2d_weight", call, workspace);
  });
  if (workspace.measuring()) return;
  if (chunks == 0) for_each_element(queue, "conv2d_weight", s.weight_size(), Zeros<Sum>{parts});
  for_each_element(queue, "conv2d_weight", s.weight_size(),
                   FinishPartials<T>{parts, max_of(1, chunks), s.weight_size(), 1, 1, {}, gweight});
}

}  // namespace cnncore::cuda
