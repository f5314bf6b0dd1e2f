#include "cnncore/registry.h"

namespace cnncore {
namespace {
const KernelSource* first = nullptr;  // constant-initialised, so safe before any registration
}

KernelSource::KernelSource(const char* name_, const char* file_, int line_)
    : name(name_), file(file_), line(line_), next(first) {
  first = this;
}

const KernelSource* kernel_sources() {
  return first;
}

}  // namespace cnncore
