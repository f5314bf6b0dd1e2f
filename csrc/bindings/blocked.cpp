// Kernels on blocked arrays (N, C/B, H, W, B): what compiled networks are made of. Results go into
// arrays of the caller.
#include <memory>
#include <optional>
#include <variant>

#include "bindings/bindings.h"
#include "bindings/conv_arguments.h"
#include "cpu/blocked/convolution.h"
#include "cpu/blocked/inverted.h"
#include "cpu/blocked/layers.h"

namespace cnncore {
namespace {

using Shape4 = std::array<index_t, 4>;  // (N, C, H, W), whatever the layout

BlockedShape make_blocked_shape(const Shape4& shape) {
  for (index_t size : shape) require_size("shape", size, 0);
  checked_product(shape[0], shape[1] + 64, shape[2], shape[3]);
  return {shape[0], shape[1], shape[2], shape[3]};
}

// The array of a shape: blocked, or planar.
template <class T>
std::vector<index_t> expected_shape(const BlockedShape& s, bool planar) {
  if (planar) return {s.images, s.channels, s.height, s.width};
  const index_t B = block_lanes<T>();
  return {s.images, ceil_div(s.channels, B), s.height, s.width, B};
}

template <class View>
void check_shape(const View& view, const py::array& array, const char* name,
                 const std::vector<index_t>& expected) {
  bool same = view.rank == static_cast<int>(expected.size());
  for (int axis = 0; same && axis < view.rank; ++axis)
    same = view[axis] == expected[static_cast<std::size_t>(axis)];
  std::string words = "shape (";
  for (index_t size : expected) words += describe(size) + ", ";
  CNNCORE_REQUIRE(same, name, words + ")", describe_array(array));
}

template <class T>
const T* source(const py::array& x, const char* name, const BlockedShape& s, bool planar = false) {
  const auto view = input<T>(x, name);
  check_shape(view, x, name, expected_shape<T>(s, planar));
  return view.data;
}

template <class T>
T* target(py::array& y, const BlockedShape& s, bool planar = false) {
  const auto view = inout<T>(y, "out");
  check_shape(view, y, "out", expected_shape<T>(s, planar));
  return view.data;
}

class Convolution {
 public:
  // As PreparedConvolution, but `planar`: the source is (N, C, H, W), not blocked.
  Convolution(const py::array& weight, const py::object& bias, const Shape4& shape,
              const std::optional<Size>& size, const FlatWindow& flat, index_t groups,
              const Activating& activating, bool planar)
      : activating_(activating) {
    by_dtype(weight, "weight", [&](auto zero) {
      using T = decltype(zero);
      const auto w = input<T>(weight, "weight", 4);
      CNNCORE_REQUIRE(groups >= 1, "groups", "an integer >= 1", groups);
      const Window2d window = make_window(flat);
      const ConvShape s =
          size ? make_shape(shape[0], checked_product(w[1], groups), (*size)[0], (*size)[1], w[0],
                            groups, window)
               : make_shape(shape[0], shape[1], shape[2], shape[3], w[0], groups, window);
      check_weight(w, s);
      const T* const b = optional_bias<T>(bias, size ? s.channels : s.outputs);
      make_finish<T>(py::none(), activating, {});
      auto made = std::make_unique<BlockedConvolution<T>>(s, size.has_value(), planar, w.data, b);
      const BlockedShape in = made->source();
      CNNCORE_REQUIRE((shape == Shape4{in.images, in.channels, in.height, in.width}), "shape",
                      "the shape that weight, window and size ask for", "another");
      convolution_ = std::move(made);
    });
  }

  void run(const py::array& x, const py::object& residual, py::array& out,
           const py::object& scale) const {
    std::visit(
        [&](const auto& convolution) {
          using T = typename std::decay_t<decltype(*convolution)>::Element;
          const BlockedShape in = convolution->source();
          const T* const from = source<T>(x, "x", in, convolution->planar_source());
          const T* factor = nullptr;
          if (!scale.is_none()) {
            CNNCORE_REQUIRE(convolution->scales(), "scale", "None, but for 1 x 1 and one group",
                            "an array");
            factor = source<T>(py::cast<py::array>(scale), "scale", {in.images, in.channels, 1, 1});
          }
          T* const to = target<T>(out, convolution->target());
          const Finish<T> finish = make_finish<T>(residual, activating_,
                                                  expected_shape<T>(convolution->target(), false));
          without_gil([&] { convolution->run(from, finish, to, factor); });
        },
        convolution_);
  }

  std::size_t bytes() const {
    return std::visit([](const auto& convolution) { return convolution->bytes(); }, convolution_);
  }

 private:
  Activating activating_;
  std::variant<std::unique_ptr<BlockedConvolution<float>>,
               std::unique_ptr<BlockedConvolution<double>>>
      convolution_;
};

// x (N, C, H, W), E channels in the middle, O at the end or 0.
InvertedShape make_inverted(const Shape4& shape, index_t expanded, index_t outputs, bool expands,
                            const FlatWindow& flat) {
  require_size("shape", shape[1], 1);
  CNNCORE_REQUIRE(expands || expanded == shape[1], "filter", "a filter for each channel", expanded);
  require_size("outputs", outputs, 0);
  const ConvShape filter = make_shape(shape[0], expanded, shape[2], shape[3], expanded,
                                      max_of(1, expanded), make_window(flat));
  checked_product(expanded, shape[1] + outputs);
  return {shape[1], filter, outputs, expands};
}

class Inverted {
 public:
  // A stage: weight, bias or None, activating. The first or the last may be None.
  using Stage = std::tuple<py::array, py::object, Activating>;

  Inverted(const Shape4& shape, const FlatWindow& flat, const std::optional<Stage>& expand,
           const Stage& filter, const std::optional<Stage>& project)
      : filter_(std::get<2>(filter)) {
    CNNCORE_REQUIRE(expand || project, "stages", "at least two of them", "one");
    if (expand) expand_ = std::get<2>(*expand);
    if (project) project_ = std::get<2>(*project);
    by_dtype(std::get<0>(filter), "filter", [&](auto zero) {
      using T = decltype(zero);
      const index_t expanded = std::get<0>(filter).shape(0);
      const index_t outputs = project ? std::get<0>(*project).shape(0) : 0;
      const InvertedShape s = make_inverted(shape, expanded, outputs, expand.has_value(), flat);
      const Part<T> one = expand ? Part<T>(*expand, s.expand()) : Part<T>{};
      const Part<T> two(filter, s.filter);
      const Part<T> three = project ? Part<T>(*project, s.project()) : Part<T>{};
      layer_ = std::make_unique<BlockedInverted<T>>(s, one.weight, one.bias, two.weight, two.bias,
                                                    three.weight, three.bias);
    });
  }

  void run(const py::array& x, const py::object& residual, py::array& out) const {
    std::visit(
        [&](const auto& layer) {
          using T = typename std::decay_t<decltype(*layer)>::Element;
          const T* const from = source<T>(x, "x", layer->source());
          T* const to = target<T>(out, layer->target());
          const Finish<T> h =
              make_finish<T>(residual, project_, expected_shape<T>(layer->target(), false));
          const Finish<T> f = make_finish<T>(py::none(), expand_, {}),
                          g = make_finish<T>(py::none(), filter_, {});
          without_gil([&] { layer->run(from, f, g, h, to); });
        },
        layer_);
  }

  std::size_t bytes() const {
    return std::visit([](const auto& layer) { return layer->bytes(); }, layer_);
  }

 private:
  template <class T>
  struct Part {
    Part() = default;
    Part(const Stage& stage, const ConvShape& shape) {
      const auto view = input<T>(std::get<0>(stage), "weight", 4);
      check_weight(view, shape);
      weight = view.data;
      bias = optional_bias<T>(std::get<1>(stage), shape.outputs);
      make_finish<T>(py::none(), std::get<2>(stage), {});
    }
    const T* weight = nullptr;
    const T* bias = nullptr;
  };

  Activating expand_{kNoActivation, 0.0, 0.0}, filter_, project_{kNoActivation, 0.0, 0.0};
  std::variant<std::unique_ptr<BlockedInverted<float>>, std::unique_ptr<BlockedInverted<double>>>
      layer_;
};

bool serves(const Shape4& shape, index_t outputs, index_t groups, bool transposed, bool planar) {
  ConvShape s{shape[0], shape[1], shape[2], shape[3], outputs, groups, {}};
  if (transposed) std::swap(s.channels, s.outputs);
  return BlockedConvolution<float>::serves(s, transposed, planar) &&
         BlockedConvolution<double>::serves(s, transposed, planar);
}

void to_blocked_binding(const py::array& x, py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto in = input<T>(x, "x", 4);
    const BlockedShape s{in[0], in[1], in[2], in[3]};
    T* const to = target<T>(out, s);
    without_gil([&] { to_blocked(s, in.data, to); });
  });
}

void from_blocked_binding(const py::array& x, py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const auto to = inout<T>(out, "out", 4);
    const BlockedShape s{to[0], to[1], to[2], to[3]};
    const T* const from = source<T>(x, "x", s);
    without_gil([&] { from_blocked(s, from, to.data); });
  });
}

void pool_binding(const py::array& x, const Shape4& shape, const FlatWindow& flat,
                  const Size& out_size, bool maximum, index_t divisor, py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const BlockedShape s = make_blocked_shape(shape);
    const Window2d window = make_window(flat);
    CNNCORE_REQUIRE(divisor >= 0, "divisor", "an integer >= 0", divisor);
    const T* const from = source<T>(x, "x", s);
    T* const to = target<T>(out, {s.images, s.channels, out_size[0], out_size[1]});
    without_gil(
        [&] { blocked_pool(s, window, out_size[0], out_size[1], maximum, divisor, from, to); });
  });
}

void mean_binding(const py::array& x, const Shape4& shape, py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const BlockedShape s = make_blocked_shape(shape);
    const T* const from = source<T>(x, "x", s);
    T* const to = target<T>(out, {s.images, s.channels, 1, 1});
    without_gil([&] { blocked_mean(s, from, to); });
  });
}

// a: (1 or N, C/B, 1, 1, B), b: (1, C/B, 1, 1, B) or None.
void affine_binding(const py::array& x, const Shape4& shape, const py::array& a,
                    const py::object& b, const py::object& residual, const Activating& activating,
                    py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const BlockedShape s = make_blocked_shape(shape);
    const bool per_image = a.ndim() == 5 && a.shape(0) == s.images && s.images != 1;
    const BlockedShape one{1, s.channels, 1, 1};
    const T* const factor = source<T>(a, "a", {per_image ? s.images : 1, s.channels, 1, 1});
    const T* const term = b.is_none() ? nullptr : source<T>(py::cast<py::array>(b), "b", one);
    const T* const from = source<T>(x, "x", s);
    T* const to = target<T>(out, s);
    const Finish<T> finish = make_finish<T>(residual, activating, expected_shape<T>(s, false));
    without_gil([&] { blocked_affine(s, from, factor, per_image, term, finish, to); });
  });
}

void select_binding(const py::array& x, const Shape4& shape, const std::vector<index_t>& rows,
                    const std::vector<index_t>& columns, py::array& out) {
  by_dtype(x, "x", [&](auto zero) {
    using T = decltype(zero);
    const BlockedShape s = make_blocked_shape(shape);
    for (index_t row : rows) CNNCORE_REQUIRE(row >= 0 && row < s.height, "rows", "rows of x", row);
    for (index_t column : columns)
      CNNCORE_REQUIRE(column >= 0 && column < s.width, "columns", "columns of x", column);
    const T* const from = source<T>(x, "x", s);
    T* const to = target<T>(out, {s.images, s.channels, static_cast<index_t>(rows.size()),
                                  static_cast<index_t>(columns.size())});
    without_gil([&] { blocked_select(s, rows, columns, from, to); });
  });
}

}  // namespace

void bind_blocked(py::module_& module) {
  py::class_<Convolution>(module, "BlockedConvolution")
      .def(py::init<const py::array&, const py::object&, const Shape4&, const std::optional<Size>&,
                    const FlatWindow&, index_t, const Activating&, bool>(),
           py::arg("weight"), py::arg("bias"), py::arg("shape"), py::arg("size"), py::arg("window"),
           py::arg("groups"), py::arg("activating"), py::arg("planar"))
      .def("run", &Convolution::run, py::arg("x"), py::arg("residual"), py::arg("out"),
           py::arg("scale") = py::none())
      .def_property_readonly("nbytes", &Convolution::bytes);
  py::class_<Inverted>(module, "BlockedInverted")
      .def(py::init<const Shape4&, const FlatWindow&, const std::optional<Inverted::Stage>&,
                    const Inverted::Stage&, const std::optional<Inverted::Stage>&>(),
           py::arg("shape"), py::arg("window"), py::arg("expand"), py::arg("filter"),
           py::arg("project"))
      .def("run", &Inverted::run, py::arg("x"), py::arg("residual"), py::arg("out"))
      .def_property_readonly("nbytes", &Inverted::bytes);
  module.def("blocked_inverted_pays",
             [](const Shape4& shape, index_t expanded, index_t outputs, bool expands,
                const FlatWindow& window, const py::array& like) {
               return by_dtype(like, "x", [&](auto zero) {
                 return BlockedInverted<decltype(zero)>::pays(
                     make_inverted(shape, expanded, outputs, expands, window));
               });
             });
  module.def("blocked_serves", &serves);
  module.def("block_lanes", [](const py::array& like) {
    return by_dtype(like, "x", [](auto zero) { return block_lanes<decltype(zero)>(); });
  });
  module.def("to_blocked", &to_blocked_binding);
  module.def("from_blocked", &from_blocked_binding);
  module.def("blocked_pool", &pool_binding);
  module.def("blocked_mean", &mean_binding);
  module.def("blocked_affine", &affine_binding);
  module.def("blocked_select", &select_binding);
}

}  // namespace cnncore
