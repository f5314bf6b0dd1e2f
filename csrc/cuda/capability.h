// What the device can do that kernels are chosen by.
#pragma once

#include "cuda/queue.h"

namespace cnncore::cuda {

struct Capability {
  int version = 90;         // 10 · major + minor
  int shared = 227 * 1024;  // bytes of shared memory that a block may have

  bool has_tf32() const { return version >= 80; }
  bool has_bfloat16() const { return version >= 80; }
};

Capability capability(const Queue& queue);

// For tests of the host build, which has none of its own.
void pretend_capability(const Capability& capability);

}  // namespace cnncore::cuda
