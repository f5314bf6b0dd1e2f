// Matrix products, im2col and the convolution family.
#include <array>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/conv_arguments.h"
#include "cnncore/geometry.h"
#include "cpu/conv/conv2d.h"
#include "cpu/conv/select.h"
#include "cpu/im2col.h"
#include "cpu/matmul.h"

namespace cnncore {
namespace {

template <class T>
void check_outputs(const ArrayView<const T>& y, const char* name, const ConvShape& s) {
  CNNCORE_REQUIRE(y[0] == s.images && y[1] == s.outputs && y[2] == s.oh() && y[3] == s.ow(), name,
                  "shape (N, O, OH, OW) = (" + describe(s.images) + ", " + describe(s.outputs) +
                      ", " + describe(s.oh()) + ", " + describe(s.ow()) + ")",
                  "(" + describe(y[0]) + ", " + describe(y[1]) + ", " + describe(y[2]) + ", " +
                      describe(y[3]) + ")");
}

py::array py_conv2d(const py::array& x, const py::array& weight, const py::object& bias,
                    const FlatWindow& flat, index_t groups, const std::string& algorithm,
                    const py::object& residual, const Activating& activating) {
  return by_dtype(x, "x", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4), w = input<T>(weight, "weight", 4);
    const ConvShape s = make_shape(in[0], in[1], in[2], in[3], w[0], groups, make_window(flat));
    check_weight(w, s);
    const T* const b = optional_bias<T>(bias, s.outputs);
    const Finish<T> finish = make_finish<T>(residual, activating, output_shape(s));
    auto y = output<T>(output_shape(s));
    without_gil([&] { conv2d(s, in.data, w.data, b, finish, y.view.data, algorithm); });
    return y.array;
  });
}

py::array py_conv_transpose2d(const py::array& y, const py::array& weight, const py::object& bias,
                              const Size& size, const FlatWindow& flat, index_t groups,
                              const std::string& algorithm, const py::object& residual,
                              const Activating& activating) {
  return by_dtype(y, "y", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto out = input<T>(y, "y", 4), w = input<T>(weight, "weight", 4);
    CNNCORE_REQUIRE(groups >= 1, "groups", "an integer >= 1", groups);
    const ConvShape s = make_shape(out[0], checked_product(w[1], groups), size[0], size[1], w[0],
                                   groups, make_window(flat));
    check_weight(w, s);
    check_outputs(out, "y", s);
    const T* const b = optional_bias<T>(bias, s.channels);
    const Finish<T> finish = make_finish<T>(residual, activating, input_shape(s));
    auto x = output<T>(input_shape(s));
    without_gil([&] { conv_transpose2d(s, out.data, w.data, b, finish, x.view.data, algorithm); });
    return x.array;
  });
}

// A ConvLayer of either element type, with its activation.
class Prepared {
 public:
  // `size` is None for conv2d with x of `shape`; for conv_transpose2d it is the result's (H, W) and
  // `shape` that of y.
  Prepared(const py::array& weight, const py::object& bias, const std::array<index_t, 4>& shape,
           const std::optional<Size>& size, const FlatWindow& flat, index_t groups,
           const Activating& activating, const std::string& algorithm)
      : activating_(activating) {
    by_dtype(weight, "weight", [&](auto zero) {
      using T = decltype(zero);
      const auto w = input<T>(weight, "weight", 4);
      CNNCORE_REQUIRE(groups >= 1, "groups", "an integer >= 1", groups);
      const ConvShape s = size ? make_shape(shape[0], checked_product(w[1], groups), (*size)[0],
                                            (*size)[1], w[0], groups, make_window(flat))
                               : make_shape(shape[0], shape[1], shape[2], shape[3], w[0], groups,
                                            make_window(flat));
      check_weight(w, s);
      const ConvDirection direction = size ? ConvDirection::input : ConvDirection::output;
      from_ = size ? output_shape(s) : input_shape(s);
      to_ = size ? input_shape(s) : output_shape(s);
      CNNCORE_REQUIRE(from_ == std::vector<index_t>(shape.begin(), shape.end()), "shape",
                      "the shape that weight, window and size ask for", "another");
      const T* const b = optional_bias<T>(bias, to_[1]);
      make_finish<T>(py::none(), activating, {});
      const ConvAlgorithm<T>& chosen = select_algorithm<T>(algorithm, s, direction);
      algorithm_ = chosen.name;
      layer_ = chosen.prepare(s, direction, w.data, b);
    });
  }

  void run(const py::array& x, const py::object& residual, py::array& out) const {
    std::visit(
        [&](const auto& layer) {
          using T = typename std::decay_t<decltype(*layer)>::Element;
          const auto from = input<T>(x, "x", 4);
          const auto to = inout<T>(out, "out", 4);
          check_shape(from, x, "x", from_);
          check_shape(to, out, "out", to_);
          const Finish<T> finish = make_finish<T>(residual, activating_, to_);
          without_gil([&] { layer->run(from.data, finish, to.data); });
        },
        layer_);
  }

  std::size_t bytes() const {
    return std::visit([](const auto& layer) { return layer->bytes(); }, layer_);
  }

  const std::string& algorithm() const { return algorithm_; }

 private:
  template <class View>
  static void check_shape(const View& view, const py::array& array, const char* name,
                          const std::vector<index_t>& shape) {
    for (int axis = 0; axis < 4; ++axis)
      CNNCORE_REQUIRE(view[axis] == shape[static_cast<std::size_t>(axis)], name,
                      "the shape that was prepared for", describe_array(array));
  }

  Activating activating_;
  std::vector<index_t> from_, to_;
  std::string algorithm_;
  std::variant<std::unique_ptr<ConvLayer<float>>, std::unique_ptr<ConvLayer<double>>> layer_;
};

py::array py_conv2d_weight(const py::array& x, const py::array& gy, const FlatWindow& flat,
                           index_t groups, const std::string& algorithm) {
  return by_dtype(x, "x", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4), out = input<T>(gy, "gy", 4);
    const ConvShape s = make_shape(in[0], in[1], in[2], in[3], out[1], groups, make_window(flat));
    check_outputs(out, "gy", s);
    auto gw = output<T>({s.outputs, s.group_channels(), s.window.h.kernel, s.window.w.kernel});
    without_gil([&] { conv2d_weight(s, in.data, out.data, gw.view.data, algorithm); });
    return gw.array;
  });
}

// [(name, millions of steps, allowed)]: see cpu/conv/select.h.
py::list py_convolution_estimates(const std::array<index_t, 4>& shape, index_t outputs,
                                  const FlatWindow& flat, index_t groups,
                                  const std::string& direction, bool is_double) {
  CNNCORE_REQUIRE(direction == "output" || direction == "input" || direction == "weight",
                  "direction", "\"output\", \"input\" or \"weight\"", "\"" + direction + "\"");
  const ConvShape s =
      make_shape(shape[0], shape[1], shape[2], shape[3], outputs, groups, make_window(flat));
  const ConvDirection way = direction == "output"  ? ConvDirection::output
                            : direction == "input" ? ConvDirection::input
                                                   : ConvDirection::weight;
  py::list rows;
  for (const ConvEstimate& one :
       is_double ? conv_estimates<double>(s, way) : conv_estimates<float>(s, way))
    rows.append(py::make_tuple(one.name, one.steps / 1e6, one.allowed));
  return rows;
}

void py_set_precision(const std::string& name) {
  CNNCORE_REQUIRE(name == "strict" || name == "fast", "name", "\"strict\" or \"fast\"",
                  "\"" + name + "\"");
  set_precision(name == "fast" ? Precision::fast : Precision::strict);
}

py::array py_im2col(const py::array& x, const FlatWindow& flat) {
  return by_dtype(x, "x", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const Window2d window = make_window(flat);
    check_plane(window, in[2], in[3]);
    const index_t taps = window.h.kernel * window.w.kernel;
    const index_t pixels =
        checked_product(window.h.output_size(in[2]), window.w.output_size(in[3]));
    auto cols = output<T>({in[0], checked_product(in[1], taps), pixels});
    without_gil([&] { im2col(in.data, in[0] * in[1], in[2], in[3], window, cols.view.data); });
    return cols.array;
  });
}

py::array py_col2im(const py::array& cols, const Size& size, const FlatWindow& flat) {
  return by_dtype(cols, "cols", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto in = input<T>(cols, "cols", 3);
    const Window2d window = make_window(flat);
    check_plane(window, size[0], size[1]);
    const index_t taps = window.h.kernel * window.w.kernel;
    const index_t pixels =
        checked_product(window.h.output_size(size[0]), window.w.output_size(size[1]));
    CNNCORE_REQUIRE(in[1] % taps == 0 && in[2] == pixels, "cols",
                    "shape (N, C*" + describe(taps) + ", " + describe(pixels) + ")",
                    describe_array(cols));
    const index_t channels = in[1] / taps;
    auto x = output<T>({in[0], channels, size[0], size[1]});
    without_gil([&] { col2im(in.data, in[0] * channels, size[0], size[1], window, x.view.data); });
    return x.array;
  });
}

// One factor of a product, described by NumPy strides so that transposed and broadcast arrays are
// read in place.
template <class T>
BatchedMatrix<T> factor(const py::array& array, const char* name) {
  CNNCORE_REQUIRE(has_dtype<T>(array), name, "the dtype of both factors to be the same",
                  describe_array(array), "x.astype(...)");
  CNNCORE_REQUIRE(array.ndim() >= 2 && array.ndim() <= kMaxRank, name,
                  "2 to " + std::to_string(kMaxRank) + " axes", describe_array(array));
  BatchedMatrix<T> result;
  result.data = static_cast<const T*>(array.data());
  const auto item = static_cast<py::ssize_t>(sizeof(T));
  CNNCORE_REQUIRE(reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0, name,
                  "an aligned array", describe_array(array), "numpy.ascontiguousarray(...)");
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    CNNCORE_REQUIRE(array.strides(axis) % item == 0, name, "strides of whole elements",
                    describe_array(array), "numpy.ascontiguousarray(...)");
    result.shape.push_back(array.shape(axis));
    result.strides.push_back(array.strides(axis) / item);
  }
  return result;
}

py::array py_matmul(const py::array& a, const py::array& b) {
  return by_dtype(a, "a", [&](auto zero) -> py::array {
    using T = decltype(zero);
    const BatchedMatrix<T> left = factor<T>(a, "a"), right = factor<T>(b, "b");
    auto c = output<T>(matmul_shape(left, right));
    without_gil([&] { matmul(left, right, c.view.data); });
    return c.array;
  });
}

}  // namespace

void bind_conv(py::module_& module) {
  module.def("matmul", &py_matmul);
  module.def("im2col", &py_im2col);
  module.def("col2im", &py_col2im);
  const Activating none{kNoActivation, 0.0, 0.0};
  module.def("conv2d", &py_conv2d, py::arg("x"), py::arg("weight"), py::arg("bias"),
             py::arg("window"), py::arg("groups"), py::arg("algorithm"),
             py::arg("residual") = py::none(), py::arg("activating") = none);
  module.def("conv_transpose2d", &py_conv_transpose2d, py::arg("y"), py::arg("weight"),
             py::arg("bias"), py::arg("size"), py::arg("window"), py::arg("groups"),
             py::arg("algorithm"), py::arg("residual") = py::none(), py::arg("activating") = none);
  py::class_<Prepared>(module, "PreparedConvolution")
      .def(py::init<const py::array&, const py::object&, const std::array<index_t, 4>&,
                    const std::optional<Size>&, const FlatWindow&, index_t, const Activating&,
                    const std::string&>(),
           py::arg("weight"), py::arg("bias"), py::arg("shape"), py::arg("size"), py::arg("window"),
           py::arg("groups"), py::arg("activating"), py::arg("algorithm") = "auto")
      .def("run", &Prepared::run, py::arg("x"), py::arg("residual"), py::arg("out"))
      .def_property_readonly("nbytes", &Prepared::bytes)
      .def_property_readonly("algorithm", &Prepared::algorithm);
  module.def("conv2d_weight", &py_conv2d_weight);
  module.def("convolution_estimates", &py_convolution_estimates);
  module.def("set_precision", &py_set_precision);
}

}  // namespace cnncore
