#include <cuda_runtime.h>

#include "cnncore/geometry.h"  // compiled for the device here, so that it stays fit for it
#include "cuda/device.h"

namespace cnncore::cuda {

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

}  // namespace cnncore::cuda
