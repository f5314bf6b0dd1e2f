// Device arrays as they come from Python: anything with __cuda_array_interface__, read once and
// checked. Results are allocated by Python and handed in. Bindings do no arithmetic.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/view.h"
#include "cuda/queue.h"
#include "cuda/workspace.h"

namespace cnncore::cuda {

namespace py = pybind11;

struct DeviceArray {
  std::uintptr_t pointer = 0;
  bool read_only = false, contiguous = true;
  std::string type;  // as the interface spells it: "<f4"
  std::vector<index_t> shape;

  index_t rank() const { return static_cast<index_t>(shape.size()); }
};

// "(2, 3) <f4", for messages.
inline std::string describe_array(const DeviceArray& array) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < array.shape.size(); ++axis)
    text += std::to_string(array.shape[axis]) + (axis + 1 < array.shape.size() ? ", " : "");
  return text + ") " + array.type;
}

template <class T>
constexpr const char* type_name();
template <>
constexpr const char* type_name<float>() {
  return "<f4";
}
template <>
constexpr const char* type_name<double>() {
  return "<f8";
}
template <>
constexpr const char* type_name<std::int32_t>() {
  return "<i4";
}
template <>
constexpr const char* type_name<std::int64_t>() {
  return "<i8";
}
template <>
constexpr const char* type_name<std::uint64_t>() {
  return "<u8";
}
template <>
constexpr const char* type_name<std::uint8_t>() {
  return "|u1";
}

template <class T>
bool has_type(const DeviceArray& array) {
  return array.type == type_name<T>();
}

// Checks element type, rank (-1: any), contiguity and alignment.
template <class T>
ArrayView<T> checked_view(const DeviceArray& array, const char* name, int rank) {
  const bool same_rank = (rank < 0 || array.rank() == rank) && array.rank() <= kMaxRank;
  if (!has_type<T>(array) || !same_rank)
    throw ArgumentError(
        name, (rank < 0 ? "an" : std::to_string(rank) + "-D") + " array of " + type_name<T>(),
        describe_array(array), "x.astype(...) or reshape");
  if (!array.contiguous || array.pointer % alignof(T) != 0)
    throw ArgumentError(name, "a C-contiguous, aligned array", describe_array(array),
                        "cupy.ascontiguousarray(...)");
  ArrayView<T> view;
  view.data = reinterpret_cast<T*>(array.pointer);
  view.rank = static_cast<int>(array.rank());
  for (int axis = 0; axis < view.rank; ++axis)
    view.shape[axis] = array.shape[static_cast<std::size_t>(axis)];
  return view;
}

template <class T>
ArrayView<const T> input(const DeviceArray& array, const char* name, int rank = -1) {
  const auto view = checked_view<T>(array, name, rank);
  ArrayView<const T> constant;
  constant.data = view.data;
  constant.rank = view.rank;
  for (int axis = 0; axis < view.rank; ++axis) constant.shape[axis] = view.shape[axis];
  return constant;
}

// What a kernel writes: a result that Python has allocated, or an argument updated in place.
template <class T>
ArrayView<T> output(const DeviceArray& array, const char* name, int rank = -1) {
  if (array.read_only)
    throw ArgumentError(name, "a writeable array", "a read-only one", "x.copy()");
  return checked_view<T>(array, name, rank);
}

inline void require_shape(const DeviceArray& array, const char* name,
                          const std::vector<index_t>& shape) {
  if (array.shape == shape) return;
  DeviceArray wanted;
  wanted.shape = shape;
  wanted.type = array.type;
  throw ArgumentError(name, "shape " + describe_array(wanted), describe_array(array), "");
}

// Calls f(float{}) or f(double{}) by the element type of `array`.
template <class Function>
auto by_dtype(const DeviceArray& array, const char* name, Function&& f) {
  if (has_type<float>(array)) return f(float{});
  if (has_type<double>(array)) return f(double{});
  throw ArgumentError(name, "an array of float32 or float64", describe_array(array),
                      "x.astype(numpy.float32)");
}

inline DeviceArray read_interface(const py::dict& interface) {
  DeviceArray array;
  const auto data = interface["data"].cast<std::pair<std::uintptr_t, bool>>();
  array.pointer = data.first;
  array.read_only = data.second;
  array.type = interface["typestr"].cast<std::string>();
  array.shape = interface["shape"].cast<std::vector<index_t>>();
  const py::object strides =
      interface.contains("strides") ? py::object(interface["strides"]) : py::none();
  if (strides.is_none()) return array;
  const auto steps = strides.cast<std::vector<index_t>>();
  index_t expected = array.type.size() > 2 ? std::stoll(array.type.substr(2)) : 1, count = 1;
  for (index_t size : array.shape) count *= size;
  for (std::size_t axis = array.shape.size(); axis-- > 0; expected *= array.shape[axis])
    if (count > 0 && array.shape[axis] > 1 && steps[axis] != expected) array.contiguous = false;
  return array;
}

// An optional argument: None gives a view whose data is null.
template <class T>
ArrayView<const T> optional_input(const std::optional<DeviceArray>& array, const char* name,
                                  int rank = -1) {
  return array ? input<T>(*array, name, rank) : ArrayView<const T>{};
}

// Room that Python has allocated, or None: then the function only measures (workspace.h).
inline Workspace workspace_of(const std::optional<DeviceArray>& array) {
  if (!array) return {};
  CNNCORE_REQUIRE(array->rank() == 1 && array->type == "|u1", "workspace", "bytes",
                  describe_array(*array));
  return {array->pointer, array->shape[0]};
}

// Runs a launch with the GIL released.
template <class Function>
void without_gil(Function&& f) {
  py::gil_scoped_release release;
  f();
}

}  // namespace cnncore::cuda

namespace pybind11::detail {

template <>
struct type_caster<cnncore::cuda::DeviceArray> {
  PYBIND11_TYPE_CASTER(cnncore::cuda::DeviceArray, const_name("DeviceArray"));

  bool load(handle source, bool) {
    if (!hasattr(source, "__cuda_array_interface__")) return false;
    const object interface = source.attr("__cuda_array_interface__");
    if (!isinstance<dict>(interface)) return false;
    value = cnncore::cuda::read_interface(interface.cast<dict>());
    return true;
  }
};

// (device, stream)
template <>
struct type_caster<cnncore::cuda::Queue> {
  PYBIND11_TYPE_CASTER(cnncore::cuda::Queue, const_name("tuple[int, int]"));

  bool load(handle source, bool) {
    if (!isinstance<tuple>(source)) return false;
    const auto pair = source.cast<std::pair<int, std::uintptr_t>>();
    value = {pair.first, pair.second};
    return true;
  }
};

}  // namespace pybind11::detail
