// The CUDA extension: so far it only says which devices and architectures there are.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>
#include <string>
#include <vector>

#include "cuda/device.h"

namespace {

// The value of CMAKE_CUDA_ARCHITECTURES, "90-real" and so on.
std::vector<std::string> compiled_architectures() {
  std::vector<std::string> names;
  std::istringstream list(CNNCORE_CUDA_ARCHITECTURES);
  for (std::string name; std::getline(list, name, ',');) names.push_back(name);
  return names;
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  module.doc() = "CUDA support of cnncore: devices and architectures; it has no kernels yet.";
  module.def("device_count", &cnncore::cuda::device_count);
  module.def("absence_reason", &cnncore::cuda::absence_reason);
  module.def("compiled_architectures", &compiled_architectures);
}
