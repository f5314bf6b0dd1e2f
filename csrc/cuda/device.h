// What the CUDA module knows about devices.
#pragma once

#include <string>

namespace cnncore::cuda {

int device_count();            // 0 without a device or a driver
std::string absence_reason();  // why device_count() is 0, else empty

}  // namespace cnncore::cuda
