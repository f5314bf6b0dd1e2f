// The caching memory pool: 64-byte aligned blocks, kept and reused, because touching fresh pages
// costs more than many kernels.
#pragma once

#include <cstddef>

#include "cnncore/check.h"
#include "cnncore/macros.h"

namespace cnncore {

struct Block {
  void* data;
  std::size_t capacity;  // bytes
  std::size_t used;      // of them, for the request that has it now
};

struct MemoryStats {
  // Bytes: asked for (rounded up to a size class), held beyond that, the most in use, of cached.
  std::size_t in_use, cached, peak, limit;
  std::size_t hits, misses;  // requests served from the cache, and not
  bool enabled;
};

Block* acquire_block(std::size_t bytes);  // throws std::bad_alloc
void release_block(Block* block) noexcept;
MemoryStats memory_stats();
void reset_memory_peak();
void release_cached_memory();
void set_memory_limit(std::size_t bytes);  // of cached bytes; 0 keeps nothing

// Working space of a kernel, uninitialised, from the same pool.
template <class T>
class Scratch {
 public:
  explicit Scratch(index_t count)
      : block_(acquire_block(
            static_cast<std::size_t>(checked_product(count, static_cast<index_t>(sizeof(T)))))) {}
  ~Scratch() { release_block(block_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return static_cast<T*>(block_->data); }
  T& operator[](index_t i) const { return data()[i]; }
  std::size_t bytes() const { return block_->capacity; }

 private:
  Block* block_;
};

}  // namespace cnncore
