// One bind_*() per family of kernels, called by module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace cnncore {
void bind_blocked(pybind11::module_& module);
void bind_boxes(pybind11::module_& module);
void bind_gather(pybind11::module_& module);
void bind_optim(pybind11::module_& module);
void bind_pointwise(pybind11::module_& module);
void bind_pool(pybind11::module_& module);
void bind_reduce(pybind11::module_& module);
void bind_resample(pybind11::module_& module);
void bind_normalize(pybind11::module_& module);
void bind_rows(pybind11::module_& module);
void bind_conv(pybind11::module_& module);
void bind_runtime(pybind11::module_& module);
}  // namespace cnncore
