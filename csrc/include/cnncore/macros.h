// What host and device code share: functions marked CNNCORE_HD run on both.
#pragma once

#include <cstddef>
#include <cstdint>

// Host functions of headers are always inlined: csrc/cpu/isa compiles these headers with wider
// instruction sets, and an out-of-line copy from there could be linked in everywhere.
#if defined(__CUDACC__)
  #define CNNCORE_HD __host__ __device__ __forceinline__
#else
  #define CNNCORE_HD inline __attribute__((always_inline))
#endif

namespace cnncore {
using index_t = std::int64_t;
}
