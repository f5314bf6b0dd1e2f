#include "cuda/device.h"
#include "cuda/launch.h"

namespace cnncore::cuda {

HostOrder& host_order() {
  static HostOrder order;
  return order;
}

#if defined(__CUDACC__)

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::string absence_reason() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return count > 0 ? "" : "no CUDA device is present";
}

#else

int device_count() {
  return 1;
}

std::string absence_reason() {
  return "";
}

#endif

}  // namespace cnncore::cuda
