// The extension modules `_cuda` (kernels on a GPU) and `_cuda_host` (the same sources as loops on
// the host, for tests).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>
#include <string>
#include <vector>

#include "cnncore/check.h"
#include "cuda/bindings/bindings.h"
#include "cuda/device.h"
#include "cuda/queue.h"

namespace py = pybind11;

namespace {

// The value of CMAKE_CUDA_ARCHITECTURES, "90-real" and so on.
std::vector<std::string> compiled_architectures() {
  std::vector<std::string> names;
  std::istringstream list(CNNCORE_CUDA_ARCHITECTURES);
  for (std::string name; std::getline(list, name, ',');) names.push_back(name);
  return names;
}

// ArgumentError becomes a Python ValueError with args (argument, expected, got, hint),
// DeviceFailure a RuntimeError with args (op, code, reason); kernels/cuda.py makes cnncore's errors
// of them.
void translate_errors(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const cnncore::ArgumentError& e) {
    const py::tuple parts = py::make_tuple(e.argument, e.expected, e.got, e.hint);
    PyErr_SetObject(PyExc_ValueError, parts.ptr());
  } catch (const cnncore::cuda::DeviceFailure& e) {
    const py::tuple parts = py::make_tuple(e.op, e.code, e.what());
    PyErr_SetObject(PyExc_RuntimeError, parts.ptr());
  }
}

}  // namespace

PYBIND11_MODULE(CNNCORE_CUDA_MODULE, module) {
  module.doc() = "Device kernels of cnncore; use them through cnncore.kernels.";
  py::register_exception_translator(&translate_errors);
  module.def("device_count", &cnncore::cuda::device_count);
  module.def("absence_reason", &cnncore::cuda::absence_reason);
  module.def("compiled_architectures", &compiled_architectures);
  // How the host build plays the grid; nothing changes on a device.
  module.def("set_host_order", [](cnncore::index_t max_blocks, bool reversed, bool wide) {
    cnncore::cuda::host_order() = {max_blocks, reversed, wide};
  });
  cnncore::cuda::bind_boxes(module);
  cnncore::cuda::bind_conv(module);
  cnncore::cuda::bind_optim(module);
  cnncore::cuda::bind_pointwise(module);
  cnncore::cuda::bind_reduce(module);
  cnncore::cuda::bind_rows(module);
  cnncore::cuda::bind_sampling(module);
  cnncore::cuda::bind_segments(module);
}
