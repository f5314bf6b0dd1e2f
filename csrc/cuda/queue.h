// Where device work goes, and what may go wrong there.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cnncore/macros.h"

namespace cnncore::cuda {

// A device and a stream of it, both chosen by CuPy.
struct Queue {
  int device = 0;
  std::uintptr_t stream = 0;
};

// A CUDA call that failed. The bindings hand the parts to Python.
class DeviceFailure : public std::runtime_error {
 public:
  DeviceFailure(std::string op_, int code_, const std::string& reason)
      : std::runtime_error(op_ + ": " + reason), op(std::move(op_)), code(code_) {}

  std::string op;
  int code;
};

// For tests of the host build only, ignored by the device build: how the host plays the grid.
struct HostOrder {
  index_t max_blocks = 0;  // 0: no limit
  bool reversed = false;   // threads and blocks from the last to the first
  bool wide = false;       // 64-bit indices even where 32 bits suffice
};
HostOrder& host_order();

}  // namespace cnncore::cuda
