// Matrix products, im2col and the convolution family. A function that needs room beside its
// arguments is called twice: with workspace None it says how many bytes, and does nothing.
#include "cuda/conv.h"

#include <array>
#include <tuple>

#include "bindings/conv_shape.h"
#include "cuda/bindings/array.h"
#include "cuda/bindings/bindings.h"
#include "cuda/capability.h"

namespace cnncore::cuda {

template <>
constexpr const char* type_name<Half>() {
  return "<f2";
}
template <>
constexpr const char* type_name<BFloat16>() {
  return "<V2";  // what ml_dtypes.bfloat16 looks like from outside
}

namespace {

using OptionalArray = std::optional<DeviceArray>;

template <class Function>
auto by_any_float(const DeviceArray& array, const char* name, Function&& f) {
  if (has_type<Half>(array)) return f(Half{});
  if (has_type<BFloat16>(array)) return f(BFloat16{});
  return by_dtype(array, name, f);
}

ConvHow how_of(const std::string& algorithm, bool tf32) {
  if (algorithm == "auto") return {ConvAlgorithm::automatic, tf32};
  if (algorithm == "direct") return {ConvAlgorithm::direct, tf32};
  if (algorithm == "im2col") return {ConvAlgorithm::im2col, tf32};
  if (algorithm == "implicit_gemm") return {ConvAlgorithm::implicit_gemm, tf32};
  throw ArgumentError("algorithm", "\"auto\", \"direct\", \"im2col\" or \"implicit_gemm\"",
                      "\"" + algorithm + "\"", "\"auto\"");
}

// (kind of activation or -1, p, q)
using Activating = std::tuple<int, double, double>;

template <class T>
Finishing<T> finishing_of(const OptionalArray& bias, const OptionalArray& residual,
                          const Activating& activating, index_t channels,
                          const std::vector<index_t>& shape) {
  const auto [kind, p, q] = activating;
  CNNCORE_REQUIRE(kind >= -1 && kind < static_cast<int>(Activation::count), "kind",
                  "a known activation, or -1", kind);
  if (bias) require_shape(*bias, "bias", {channels});
  if (residual) require_shape(*residual, "residual", shape);
  return {optional_input<T>(bias, "bias", 1).data, optional_input<T>(residual, "residual").data,
          kind, p, q};
}

std::vector<index_t> input_shape(const ConvShape& s) {
  return {s.images, s.channels, s.height, s.width};
}
std::vector<index_t> output_shape(const ConvShape& s) {
  return {s.images, s.outputs, s.oh(), s.ow()};
}
std::vector<index_t> weight_shape(const ConvShape& s) {
  return {s.outputs, s.group_channels(), s.window.h.kernel, s.window.w.kernel};
}

index_t conv2d_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& weight,
                       const OptionalArray& bias, const FlatWindow& flat, index_t groups,
                       const std::string& algorithm, bool tf32, const OptionalArray& residual,
                       const Activating& activating, const OptionalArray& space,
                       const DeviceArray& y) {
  return by_any_float(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4), w = input<T>(weight, "weight", 4);
    const ConvShape s = make_shape(in[0], in[1], in[2], in[3], w[0], groups, make_window(flat));
    require_shape(weight, "weight", weight_shape(s));
    require_shape(y, "y", output_shape(s));
    const auto finishing = finishing_of<T>(bias, residual, activating, s.outputs, output_shape(s));
    const auto out = output<T>(y, "y", 4);
    const ConvHow how = how_of(algorithm, tf32);
    Workspace workspace = workspace_of(space);
    without_gil([&] { conv2d<T>(queue, s, how, in.data, w.data, finishing, out.data, workspace); });
    return workspace.bytes();
  });
}

index_t conv_transpose2d_binding(const Queue& queue, const DeviceArray& y,
                                 const DeviceArray& weight, const OptionalArray& bias,
                                 const Size& size, const FlatWindow& flat, index_t groups,
                                 const std::string& algorithm, bool tf32,
                                 const OptionalArray& residual, const Activating& activating,
                                 const OptionalArray& space, const DeviceArray& x) {
  return by_any_float(y, "y", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(y, "y", 4), w = input<T>(weight, "weight", 4);
    CNNCORE_REQUIRE(groups >= 1, "groups", "an integer >= 1", groups);
    const ConvShape s = make_shape(in[0], checked_product(w[1], groups), size[0], size[1], w[0],
                                   groups, make_window(flat));
    require_shape(weight, "weight", weight_shape(s));
    require_shape(y, "y", output_shape(s));
    require_shape(x, "x", input_shape(s));
    const auto finishing = finishing_of<T>(bias, residual, activating, s.channels, input_shape(s));
    const auto out = output<T>(x, "x", 4);
    const ConvHow how = how_of(algorithm, tf32);
    Workspace workspace = workspace_of(space);
    without_gil([&] {
      conv_transpose2d<T>(queue, s, how, in.data, w.data, finishing, out.data, workspace);
    });
    return workspace.bytes();
  });
}

index_t conv2d_weight_binding(const Queue& queue, const DeviceArray& x, const DeviceArray& gy,
                              const FlatWindow& flat, index_t groups, const std::string& algorithm,
                              bool tf32, const OptionalArray& space, const DeviceArray& gweight) {
  return by_any_float(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4), gradient = input<T>(gy, "gy", 4);
    const ConvShape s =
        make_shape(in[0], in[1], in[2], in[3], gradient[1], groups, make_window(flat));
    require_shape(gy, "gy", output_shape(s));
    require_shape(gweight, "gweight", weight_shape(s));
    const auto out = output<T>(gweight, "gweight", 4);
    const ConvHow how = how_of(algorithm, tf32);
    Workspace workspace = workspace_of(space);
    without_gil(
        [&] { conv2d_weight<T>(queue, s, how, in.data, gradient.data, out.data, workspace); });
    return workspace.bytes();
  });
}

// a (1 or B, M, L), b (1 or B, L, N) -> c (B, M, N).
index_t matmul_binding(const Queue& queue, const DeviceArray& a, const DeviceArray& b, bool tf32,
                       const OptionalArray& space, const DeviceArray& c) {
  return by_any_float(a, "a", [&](auto zero) {
    using T = decltype(zero);
    const auto left = input<T>(a, "a", 3), right = input<T>(b, "b", 3);
    const index_t batch = max_of(left[0], right[0]), m = left[1], k = left[2], n = right[2];
    CNNCORE_REQUIRE(
        (left[0] == 1 || left[0] == batch) && (right[0] == 1 || right[0] == batch) && right[1] == k,
        "b", "matrices that fit a's " + describe_array(a), describe_array(b));
    require_shape(c, "c", {batch, m, n});
    MatrixPlan plan{m, n, k, 1, batch, 1};
    plan.a_row = k;
    plan.a_outer = left[0] == 1 ? 0 : m * k;
    plan.b_depth = n;
    plan.b_outer = right[0] == 1 ? 0 : k * n;
    plan.c_row = n;
    plan.c_outer = m * n;
    const auto out = output<T>(c, "c", 3);
    Workspace workspace = workspace_of(space);
    without_gil([&] { matmul<T>(queue, plan, tf32, left.data, right.data, out.data, workspace); });
    return workspace.bytes();
  });
}

void im2col_binding(const Queue& queue, const DeviceArray& x, const FlatWindow& flat,
                    const DeviceArray& cols) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const Window2d window = make_window(flat);
    check_plane(window, in[2], in[3]);
    const index_t taps = window.h.kernel * window.w.kernel;
    require_shape(cols, "cols",
                  {in[0], checked_product(in[1], taps),
                   window.h.output_size(in[2]) * window.w.output_size(in[3])});
    const auto out = output<T>(cols, "cols", 3);
    without_gil([&] { im2col<T>(queue, in.data, in[0] * in[1], in[2], in[3], window, out.data); });
  });
}

void col2im_binding(const Queue& queue, const DeviceArray& cols, const FlatWindow& flat,
                    const DeviceArray& x) {
  by_dtype(cols, "cols", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(cols, "cols", 3);
    const auto out = output<T>(x, "x", 4);
    const Window2d window = make_window(flat);
    check_plane(window, out[2], out[3]);
    const index_t taps = window.h.kernel * window.w.kernel;
    require_shape(cols, "cols",
                  {out[0], checked_product(out[1], taps),
                   window.h.output_size(out[2]) * window.w.output_size(out[3])});
    without_gil(
        [&] { col2im<T>(queue, in.data, out[0] * out[1], out[2], out[3], window, out.data); });
  });
}

}  // namespace

void bind_conv(py::module_& module) {
  module.def("conv2d", &conv2d_binding);
  module.def("conv_transpose2d", &conv_transpose2d_binding);
  module.def("conv2d_weight", &conv2d_weight_binding);
  module.def("matmul", &matmul_binding);
  module.def("im2col", &im2col_binding);
  module.def("col2im", &col2im_binding);
  // For tests of the host build: what the device is said to be (version 90 is 9.0).
  module.def("pretend_capability",
             [](int version, int shared) { pretend_capability({version, shared}); });
}

}  // namespace cnncore::cuda
