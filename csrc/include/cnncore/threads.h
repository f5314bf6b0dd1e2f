// The thread pool: one persistent team of sleeping workers.
#pragma once

#include <type_traits>
#include <utility>

#include "cnncore/geometry.h"
#include "cnncore/macros.h"

namespace cnncore {

int get_num_threads();
void set_num_threads(int count);  // >= 1

namespace detail {
using ChunkFunction = void (*)(void* context, index_t begin, index_t end);
void run_chunks(index_t count, index_t grain, ChunkFunction function, void* context);
}  // namespace detail

// Calls fn(begin, end) over 0..count in chunks of exactly `grain` (the last may be shorter).
// The chunks never depend on the number of threads, so a kernel that keeps its reductions inside
// chunks gives the same bits on any team. Chunks are handed out as threads become free. The first
// exception is rethrown in the caller. A call from inside a chunk runs its chunks in place.
template <class Function>
void parallel_for(index_t count, index_t grain, Function&& fn) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  if (count <= grain) {
    fn(index_t{0}, count);
    return;
  }
  using Plain = std::remove_reference_t<Function>;
  detail::run_chunks(
      count, grain,
      [](void* context, index_t begin, index_t end) {
        (*static_cast<Plain*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

// A grain such that one chunk is about 32 thousand units of work: handing out a chunk costs an
// atomic operation, waking a worker some microseconds.
inline index_t grain_for(index_t work_per_item) {
  constexpr index_t kChunkWork = 32768;
  return max_of(1, kChunkWork / max_of(1, work_per_item));
}

}  // namespace cnncore
