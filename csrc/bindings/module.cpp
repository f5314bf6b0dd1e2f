#include "bindings/bindings.h"
#include "cnncore/check.h"
#include "cpu/dispatch_isa.h"

namespace py = pybind11;

namespace {

// ArgumentError becomes a Python ValueError with args (argument, expected, got, hint), which
// native.py turns into cnncore.errors.ArgumentError.
void translate_errors(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const cnncore::ArgumentError& e) {
    const py::tuple parts = py::make_tuple(e.argument, e.expected, e.got, e.hint);
    PyErr_SetObject(PyExc_ValueError, parts.ptr());
  }
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiled kernels of cnncore; use them through cnncore.kernels.";
  py::register_exception_translator(&translate_errors);
  cnncore::active_isa();  // an impossible CNNCORE_ISA fails the import, with its reason
  cnncore::bind_boxes(module);
  cnncore::bind_gather(module);
  cnncore::bind_optim(module);
  cnncore::bind_pointwise(module);
  cnncore::bind_pool(module);
  cnncore::bind_reduce(module);
  cnncore::bind_resample(module);
  cnncore::bind_normalize(module);
  cnncore::bind_rows(module);
  cnncore::bind_blocked(module);
  cnncore::bind_conv(module);
  cnncore::bind_runtime(module);
}
