// One bind_*() per family of device kernels, called by module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace cnncore::cuda {
void bind_boxes(pybind11::module_& module);
void bind_conv(pybind11::module_& module);
void bind_optim(pybind11::module_& module);
void bind_pointwise(pybind11::module_& module);
void bind_reduce(pybind11::module_& module);
void bind_rows(pybind11::module_& module);
void bind_sampling(pybind11::module_& module);
void bind_segments(pybind11::module_& module);
}  // namespace cnncore::cuda
