// One bind_*() per family of kernels, called by module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace cnncore {
void bind_runtime(pybind11::module_& module);
}  // namespace cnncore
