// Definitions of conv.h, instantiated for one element type by each conv_<type>.cu.
#pragma once

#include "cuda/conv_columns.h"

namespace cnncore::cuda {

// --- what is chosen ------------------------------------------------------------------------------

template <class T>
bool on_tensor_cores(const Queue& queue, bool tf32) {
  if constexpr (std::is_same_v<T, BFloat16>)
    CNNCORE_REQUIRE(capability(queue).has_bfloat16(), "x",
                    "bfloat16 on a device of compute capability 8.0 or newer",
                    capability(queue).version / 10.0, "float16 or float32");
  if constexpr (std::is_same_v<T, float>) return tf32 && capability(queue).has_tf32();
  return sizeof(T) == 2;
}

// Too few products a pixel for a matrix kernel: most of its tile would be zeros.
inline bool few_channels(const ConvShape& s) {
  return s.groups > 1 && min_of(s.group_channels(), s.group_outputs()) <= 4;
}

inline ConvAlgorithm resolve(const ConvHow& how, const ProductPlan& plan) {
  const bool fits = fits_tiles(plan);
  if (how.algorithm == ConvAlgorithm::automatic)
    return few_channels(plan.s) || !fits ? ConvAlgorithm::direct : ConvAlgorithm::implicit_gemm;
  CNNCORE_REQUIRE(fits || how.algorithm != ConvAlgorithm::implicit_gemm, "algorithm",
                  "for more than 2**31 pixels or terms of a sum, \"auto\"", "\"implicit_gemm\"",
                  "algorithm=\"auto\"");
  return how.algorithm;
}

// A 1 x 1 filter without strides or padding sees every plane as one row.
inline bool is_flat(const ConvShape& s) {
  const Window1d &h = s.window.h, &w = s.window.w;
  return s.taps() == 1 && h.stride == 1 && w.stride == 1 && h.before + h.after == 0 &&
         w.before + w.after == 0;
}

inline ConvShape flattened(ConvShape s) {
  if (!is_flat(s)) return s;
  s.width *= s.height;
  s.height = 1;
  return s;
}

// A copy of x with channels last.
template <class T>
const T* channels_last(const Queue& queue, const char* op, const T* x, index_t images,
                       index_t channels, index_t pixels, Workspace& workspace) {
  T* const copy = workspace.take<T>(images * channels * pixels);
  const ChannelsLast<T> kernel{x, copy, channels, pixels};
  if (!workspace.measuring()) for_each_block(queue, op, kernel.blocks(images), kernel);
  return copy;
}

// --- straight from the definition ----------------------------------------------------------------

template <class T>
void direct_forward(const Queue& queue, const ConvShape& s, const T* x, const T* weight,
                    const Finishing<T>& finishing, T* y) {
  const DirectForward<T> kernel{
      x, weight, y, s, s.oh(), s.ow(), s.outputs, s.group_outputs(), finishing};
  for_each_index(queue, "conv2d", s.output_size(), s.output_size(), kernel);
}

template <class T>
void direct_transposed(const Queue& queue, const ConvShape& s, const T* y, const T* weight,
                       const Finishing<T>& finishing, T* x) {
  const DirectTransposed<T> kernel{y,
                                   weight,
                                   x,
                                   s,
                                   {s.window.h, s.oh()},
                                   {s.window.w, s.ow()},
                                   s.height,
                                   s.width,
                                   s.channels,
                                   s.group_channels(),
                                   finishing};
  for_each_index(queue, "conv_transpose2d", s.input_size(), s.input_size(), kernel);
}

template <class T>
void direct_weight(const Queue& queue, const ConvShape& s, const T* x, const T* gy, T* gweight) {
  for_each_block(queue, "conv2d_weight", s.weight_size(),
                 DirectWeight<T>{x, gy, gweight, s, s.oh(), s.ow()});
}

// --- implicit products ---------------------------------------------------------------------------
// Tensor cores multiply faster than elements can be gathered one by one along the pixels. With the
// channels last 16 bytes are gathered at once, which pays for bringing the planes into that order
// where each element is used often: always for 16-bit types, for which there is no other copy
// beside the arithmetic, and for TF32 where many rows share a window of several taps. (An estimate
// from instruction counts, not yet measured.)
template <class T>
bool by_channels(const ConvShape& s, bool tensor, bool whole, index_t channels, index_t rows) {
  constexpr index_t vector = 16 / static_cast<index_t>(sizeof(T));
  if (!tensor || whole || channels % vector != 0) return false;
  return sizeof(T) == 2 || (s.taps() >= 4 && rows >= 64);
}

template <class T>
void implicit_forward(const Queue& queue, const ConvShape& shape, bool tensor, const T* x,
                      const T* weight, const Finishing<T>& finishing, T* y, Workspace& workspace) {
  constexpr index_t vector = 16 / static_cast<index_t>(sizeof(T));
  const char* const op = "conv2d";
  const ConvShape s = flattened(shape);
  const index_t pixels = s.oh() * s.ow(), depth = s.group_channels() * s.taps();
  const bool whole = is_flat(s) && pixels % vector == 0 && aligned(x);
  const bool last = by_channels<T>(s, tensor, whole, s.group_channels(), s.group_outputs());
  TileCall<T> call;
  call.plan = {Direction::forward, last, s, {}};
  call.a = weight;
  call.b = x;
  if (last) {
    call.b = channels_last(queue, op, x, s.images, s.channels, s.height * s.width, workspace);
    T* const packed = workspace.take<T>(s.weight_size());
    call.a = packed;
    if (!workspace.measuring())
      for_each_element(queue, op, s.weight_size(),
                       PackForward<T>{weight, packed, s.group_channels(), s.taps()});
  }
  call.b_along = last;
  call.a_vector = last || (depth % vector == 0 && aligned(weight));
  call.b_vector = last || whole;
  call.tensor = tensor;
  call.finishing = finishing;
  call.target = y;
  call.target_size = s.output_size();
  call.plane = pixels;
  call.channels = s.outputs;
  multiply_tiles(queue, op, call, workspace);
}

template <class T>
void implicit_transposed(const Queue& queue, const ConvShape& shape, bool tensor, const T* y,
                         const T* weight, const Finishing<T>& finishing, T* x,
                         Workspace& workspace) {
  constexpr index_t vector = 16 / static_cast<index_t>(sizeof(T));
  const char* const op = "conv_transpose2d";
  const ConvShape s = flattened(shape);
  const index_t pixels = s.oh() * s.ow();
  const bool whole = is_flat(s) && pixels % vector == 0 && aligned(y);
  const bool last = by_channels<T>(s, tensor, whole, s.group_outputs(), s.group_channels());
  const index_t packed_size = phase_count(s) * s.channels * packed_pitch(s);
  T* const packed = workspace.take<T>(packed_size);
  if (!workspace.measuring())
    for_each_element(queue, op, packed_size, PackTransposed<T>{weight, packed, s, last});
  TileCall<T> call;
  call.plan = {Direction::transposed, last, s, {}};
  call.a = packed;
  call.b = last ? channels_last(queue, op, y, s.images, s.outputs, pixels, workspace) : y;
  call.b_along = last;
  call.a_vector = true;
  call.b_vector = last || whole;
  call.tensor = tensor;
  call.finishing = finishing;
  call.target = x;
  call.target_size = s.input_size();
  call.plane = s.height * s.width;
  call.channels = s.channels;
  multiply_tiles(queue, op, call, workspace);
}

template <class T>
void implicit_weight(const Queue& queue, const ConvShape& shape, bool tensor, const T* x,
                     const T* gy, T* gweight, Workspace& workspace) {
  constexpr index_t vector = 16 / static_cast<index_t>(sizeof(T));
  const char* const op = "conv2d_weight";
  const ConvShape s = flattened(shape);
  const index_t pixels = s.oh() * s.ow();
  const bool whole = is_flat(s) && pixels % vector == 0 && aligned(x) && aligned(gy);
  const bool last = sizeof(T) == 2 && !whole && s.group_channels() % vector == 0 &&
                    s.group_outputs() % vector == 0;
  TileCall<T> call;
  call.plan = {Direction::weight, last, s, {}};
  call.a = last ? channels_last(queue, op, gy, s.images, s.outputs, pixels, workspace) : gy;
  call.b =
      last ? channels_last(queue, op, x, s.images, s.channels, s.height * s.width, workspace) : x;
  call.a_along = call.b_along = !last;
  call.a_vector = last || (pixels % vector == 0 && aligned(gy));
  call.b_vector = last || whole;
  call.tensor = tensor;
  call.target = gweight;
  call.target_size = s.weight_size();
  multiply_tiles(queue, op, call, workspace);
}

// --- the family ----------------------------------------------------------------------------------

template <class T>
void conv2d(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* x, const T* weight,
            const Finishing<T>& finishing, T* y, Workspace& workspace) {
  const bool tensor = on_tensor_cores<T>(queue, how.tf32);
  switch (resolve(how, {Direction::forward, false, s, {}})) {
    case ConvAlgorithm::im2col:
      return column_forward(queue, s, tensor, x, weight, finishing, y, workspace);
    case ConvAlgorithm::implicit_gemm:
      return implicit_forward(queue, s, tensor, x, weight, finishing, y, workspace);
    default:
      if (!workspace.measuring()) direct_forward(queue, s, x, weight, finishing, y);
  }
}

template <class T>
void conv_transpose2d(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* y,
                      const T* weight, const Finishing<T>& finishing, T* x, Workspace& workspace) {
  const bool tensor = on_tensor_cores<T>(queue, how.tf32);
  switch (resolve(how, {Direction::transposed, false, s, {}})) {
    case ConvAlgorithm::im2col:
      return column_transposed(queue, s, tensor, y, weight, finishing, x, workspace);
    case ConvAlgorithm::implicit_gemm:
      return implicit_transposed(queue, s, tensor, y, weight, finishing, x, workspace);
    default:
      if (!workspace.measuring()) direct_transposed(queue, s, y, weight, finishing, x);
  }
}

template <class T>
void conv2d_weight(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* x,
                   const T* gy, T* gweight, Workspace& workspace) {
  const bool tensor = on_tensor_cores<T>(queue, how.tf32);
  switch (resolve(how, {Direction::weight, false, s, {}})) {
    case ConvAlgorithm::im2col:
      return column_weight(queue, s, tensor, x, gy, gweight, workspace);
    case ConvAlgorithm::implicit_gemm:
      return implicit_weight(queue, s, tensor, x, gy, gweight, workspace);
    default:
      if (!workspace.measuring()) direct_weight(queue, s, x, gy, gweight);
  }
}

template <class T>
void matmul(const Queue& queue, const MatrixPlan& plan, bool tf32, const T* a, const T* b, T* c,
            Workspace& workspace) {
  TileCall<T> call = matrix_call<T>(plan, on_tensor_cores<T>(queue, tf32), a, b);
  call.target = c;
  call.target_size = plan.units * plan.m * plan.n;
  CNNCORE_REQUIRE(fits_tiles(call.plan), "a and b", "sides below 2**31",
                  describe(plan.m) + " x " + describe(plan.k) + " x " + describe(plan.n));
  multiply_tiles(queue, "matmul", call, workspace);
}

template <class T>
void im2col(const Queue& queue, const T* x, index_t planes, index_t height, index_t width,
            const Window2d& window, T* cols) {
  const index_t oh = window.h.output_size(height), ow = window.w.output_size(width);
  const index_t count = planes * window.h.kernel * window.w.kernel * oh * ow;
  for_each_index(
      queue, "im2col", count, count,
      Im2Col<T>{x, cols, window, height, width, oh, ow, window.h.kernel, window.w.kernel});
}

template <class T>
void col2im(const Queue& queue, const T* cols, index_t planes, index_t height, index_t width,
            const Window2d& window, T* x) {
  const index_t oh = window.h.output_size(height), ow = window.w.output_size(width);
  const index_t count = planes * height * width;
  for_each_index(queue, "col2im", count, count,
                 Col2Im<T>{cols, x, {window.h, oh}, {window.w, ow}, height, width, 1, {}});
}

#define CNNCORE_CONVOLUTIONS(T)                                                                    \
  template void conv2d(const Queue&, const ConvShape&, const ConvHow&, const T*, const T*,         \
                       const Finishing<T>&, T*, Workspace&);                                       \
  template void conv_transpose2d(const Queue&, const ConvShape&, const ConvHow&, const T*,         \
                                 const T*, const Finishing<T>&, T*, Workspace&);                   \
  template void conv2d_weight(const Queue&, const ConvShape&, const ConvHow&, const T*, const T*,  \
                              T*, Workspace&);                                                     \
  template void matmul(const Queue&, const MatrixPlan&, bool, const T*, const T*, T*, Workspace&); \
  template void im2col(const Queue&, const T*, index_t, index_t, index_t, const Window2d&, T*);    \
  template void col2im(const Queue&, const T*, index_t, index_t, index_t, const Window2d&, T*);

}  // namespace cnncore::cuda
