#include "cuda/capability.h"
#include "cuda/launch.h"

namespace cnncore::cuda {

#if defined(__CUDACC__)

Capability capability(const Queue& queue) {
  int major = 0, minor = 0;
  Capability found;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, queue.device), "device");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, queue.device), "device");
  check(
      cudaDeviceGetAttribute(&found.shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.device),
      "device");
  found.version = 10 * major + minor;
  return found;
}

void pretend_capability(const Capability&) {}

#else

namespace {
Capability pretended;
}

Capability capability(const Queue&) {
  return pretended;
}

void pretend_capability(const Capability& capability) {
  pretended = capability;
}

#endif

}  // namespace cnncore::cuda
