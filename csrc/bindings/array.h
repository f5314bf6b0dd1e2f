// From Python arguments to views and back. Bindings check and convert; they do no arithmetic.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/view.h"

namespace cnncore {

namespace py = pybind11;

// "(2, 3) float32", for messages.
inline std::string describe_array(const py::array& array) {
  std::string text = "(";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis)
    text += std::to_string(array.shape(axis)) + (axis + 1 < array.ndim() ? ", " : "");
  return text + ") " + std::string(py::str(array.dtype()));
}

// Whether the elements are T in native byte order. Comparing type numbers is quick; equal() knows
// that long and long long may be the same.
template <class T>
bool has_dtype(const py::array& array) {
  const py::dtype actual = array.dtype(), wanted = py::dtype::of<T>();
  return (actual.num() == wanted.num() && actual.byteorder() == wanted.byteorder()) ||
         actual.equal(wanted);
}

// Checks that `array` is what a kernel can read: element type T in native byte order, `rank` axes
// (-1: any), C-contiguous and aligned.
template <class T>
void check_array(const py::array& array, const char* name, int rank) {
  const auto expected = [&] {
    return (rank < 0 ? std::string("an") : std::to_string(rank) + "-D") + " array of " +
           std::string(py::str(py::dtype::of<T>()));
  };
  const bool same_type = has_dtype<T>(array);
  const bool same_rank = (rank < 0 || array.ndim() == rank) && array.ndim() <= kMaxRank;
  if (!same_type || !same_rank)
    throw ArgumentError(name, expected(), describe_array(array),
                        same_type ? "reshape it" : "x.astype(...)");
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0;
  if (!(array.flags() & py::array::c_style) || !aligned)
    throw ArgumentError(name, "a C-contiguous, aligned array", describe_array(array),
                        "numpy.ascontiguousarray(...)");
}

template <class T>
ArrayView<const T> input(const py::array& array, const char* name, int rank = -1) {
  check_array<T>(array, name, rank);
  ArrayView<const T> view;
  view.data = static_cast<const T*>(array.data());
  view.rank = static_cast<int>(array.ndim());
  for (int axis = 0; axis < view.rank; ++axis) view.shape[axis] = array.shape(axis);
  return view;
}

// An argument that a kernel updates in place.
template <class T>
ArrayView<T> inout(py::array& array, const char* name, int rank = -1) {
  check_array<T>(array, name, rank);
  if (!array.writeable())
    throw ArgumentError(name, "a writeable array", "a read-only one", "x.copy()");
  ArrayView<T> view;
  view.data = static_cast<T*>(array.mutable_data());
  view.rank = static_cast<int>(array.ndim());
  for (int axis = 0; axis < view.rank; ++axis) view.shape[axis] = array.shape(axis);
  return view;
}

// A new, uninitialised array whose memory goes back to the pool when the last reference does.
inline py::array new_array(const py::dtype& dtype, const std::vector<index_t>& shape) {
  index_t count = 1;
  for (index_t size : shape) count = checked_product(count, size);
  Block* block = acquire_block(static_cast<std::size_t>(checked_product(count, dtype.itemsize())));
  py::capsule owner(block, [](void* held) { release_block(static_cast<Block*>(held)); });
  return py::array(dtype, std::vector<py::ssize_t>(shape.begin(), shape.end()), block->data, owner);
}

template <class T>
struct Output {
  py::array array;
  ArrayView<T> view;
};

// Output<float> y = output<float>({N, C, H, W}); kernel(…, y.view); return y.array;
template <class T>
Output<T> output(const std::vector<index_t>& shape) {
  CNNCORE_REQUIRE(shape.size() <= static_cast<std::size_t>(kMaxRank), "shape",
                  "at most " + std::to_string(kMaxRank) + " axes", shape.size());
  Output<T> result{new_array(py::dtype::of<T>(), shape), {}};
  result.view.data = static_cast<T*>(result.array.mutable_data());
  result.view.rank = static_cast<int>(shape.size());
  for (int axis = 0; axis < result.view.rank; ++axis)
    result.view.shape[axis] = shape[static_cast<std::size_t>(axis)];
  return result;
}

// Calls f(float{}) or f(double{}) by the element type of `array`.
template <class Function>
auto by_dtype(const py::array& array, const char* name, Function&& f) {
  if (has_dtype<float>(array)) return f(float{});
  if (has_dtype<double>(array)) return f(double{});
  throw ArgumentError(name, "an array of float32 or float64", describe_array(array),
                      "x.astype(numpy.float32)");
}

// Runs a kernel with the GIL released.
template <class Function>
void without_gil(Function&& f) {
  py::gil_scoped_release release;
  f();
}

}  // namespace cnncore
