// One bind_*() per family of device kernels, called by module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace cnncore::cuda {
void bind_pointwise(pybind11::module_& module);
}  // namespace cnncore::cuda
