#include "cnncore/memory_pool.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace cnncore {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr int kStepsLog2 = 3;  // size classes: eight per doubling, so at most 12.5 % is wasted
constexpr int kClasses = 64 << kStepsLog2;
constexpr std::size_t kLarge = std::size_t{1} << 20;  // may be served by a larger block

#if defined(__SANITIZE_ADDRESS__)
// Reused blocks and rounded sizes would hide what the sanitizer looks for.
constexpr bool kEnabledByDefault = false;
#else
constexpr bool kEnabledByDefault = true;
#endif

struct SizeClass {
  int index;
  std::size_t bytes;
};

// The smallest class of at least `bytes`: 2^e (1 + step/8).
SizeClass size_class(std::size_t bytes) {
  if (bytes < kAlignment << kStepsLog2) bytes = kAlignment << kStepsLog2;
  const int exponent = 63 - __builtin_clzll(bytes);
  const std::size_t step = std::size_t{1} << (exponent - kStepsLog2);
  const std::size_t rounded = (bytes + step - 1) & ~(step - 1);
  const int top = 63 - __builtin_clzll(rounded);
  const auto within = static_cast<int>((rounded >> (top - kStepsLog2)) & ((1 << kStepsLog2) - 1));
  return {(top << kStepsLog2) + within, rounded};
}

void* allocate_pages(std::size_t bytes) {
  const bool huge = bytes >= kHugePage;
  const std::size_t alignment = huge ? kHugePage : kAlignment;
  void* data = nullptr;
  if (posix_memalign(&data, alignment, bytes) != 0) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(data, bytes, MADV_HUGEPAGE);  // a wish: failure changes nothing but speed
#endif
  return data;
}

void destroy(Block* block) noexcept {
  std::free(block->data);
  delete block;
}

class Pool {
 public:
  Pool() {
    const char* on = std::getenv("CNNCORE_MEMORY_POOL");
    if (on != nullptr && *on != '\0') {
      CNNCORE_REQUIRE(std::string(on) == "0" || std::string(on) == "1", "CNNCORE_MEMORY_POOL",
                      "0 or 1", on);
      stats_.enabled = *on == '1';
    }
    const char* limit = std::getenv("CNNCORE_MEMORY_LIMIT_MB");
    if (limit != nullptr && *limit != '\0') {
      char* end = nullptr;
      const unsigned long long megabytes = std::strtoull(limit, &end, 10);
      CNNCORE_REQUIRE(*end == '\0' && *limit != '-' && megabytes < (1ull << 40),
                      "CNNCORE_MEMORY_LIMIT_MB", "a whole number of megabytes", limit);
      stats_.limit = static_cast<std::size_t>(megabytes) << 20;
    } else {
      const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
      if (pages > 0 && size > 0)
        stats_.limit = static_cast<std::size_t>(pages) / 4 * static_cast<std::size_t>(size);
    }
  }

  Block* acquire(std::size_t bytes) {
    const SizeClass wanted =
        stats_.enabled ? size_class(bytes) : SizeClass{-1, bytes == 0 ? 1 : bytes};
    if (stats_.enabled) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (Block* block = take_cached(wanted)) return block;
    }
    void* data = nullptr;
    try {
      data = allocate_pages(wanted.bytes);
    } catch (const std::bad_alloc&) {
      release_cached();
      data = allocate_pages(wanted.bytes);
    }
    Block* block = new Block{data, wanted.bytes, 0};
    std::lock_guard<std::mutex> lock(mutex_);
    ++stats_.misses;
    count_use(block, wanted.bytes);
    return block;
  }

  void release(Block* block) noexcept {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stats_.in_use -= block->used;
      spare_ -= block->capacity - block->used;
      if (stats_.enabled && block->capacity <= stats_.limit) {
        // Over the limit the whole cache goes: sizes of an earlier phase would only hold memory.
        if (stats_.cached + block->capacity > stats_.limit) drop_all();
        try {
          free_[static_cast<std::size_t>(size_class(block->capacity).index)].push_back(block);
          stats_.cached += block->capacity;
          return;
        } catch (const std::bad_alloc&) {
        }
      }
    }
    destroy(block);
  }

  MemoryStats stats() {
    std::lock_guard<std::mutex> lock(mutex_);
    MemoryStats stats = stats_;
    stats.cached += spare_;
    return stats;
  }
  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void release_cached() {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_all();
  }
  void set_limit(std::size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    stats_.limit = bytes;
    if (stats_.cached > bytes) drop_all();
  }

  std::mutex& mutex() { return mutex_; }

 private:
  // The smallest free block that will do, or null. A large request may have one of up to twice its
  // size: the pages are there already, and a network whose layers all differ in size would
  // otherwise hold a block for each.
  Block* take_cached(const SizeClass& wanted) {
    const int most = wanted.bytes >= kLarge ? wanted.index + (1 << kStepsLog2) : wanted.index;
    for (int index = wanted.index; index <= most && index < kClasses; ++index) {
      std::vector<Block*>& blocks = free_[static_cast<std::size_t>(index)];
      if (blocks.empty()) continue;
      Block* block = blocks.back();
      blocks.pop_back();
      ++stats_.hits;
      stats_.cached -= block->capacity;
      count_use(block, wanted.bytes);
      return block;
    }
    return nullptr;
  }
  void count_use(Block* block, std::size_t bytes) {
    block->used = bytes;
    spare_ += block->capacity - bytes;
    stats_.in_use += bytes;
    if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
  }
  void drop_all() noexcept {
    for (std::vector<Block*>& blocks : free_) {
      for (Block* block : blocks) destroy(block);
      blocks.clear();
    }
    stats_.cached = 0;
  }

  std::mutex mutex_;
  std::size_t spare_ = 0;  // of blocks in use: what their requests have not asked for
  MemoryStats stats_{0, 0, 0, std::size_t{1} << 30, 0, 0, kEnabledByDefault};
  std::array<std::vector<Block*>, kClasses> free_;
};

Pool& pool() {
  // Never destroyed: arrays may outlive every static object.
  static Pool* const instance = [] {
    static Pool* const made = new Pool;
    pthread_atfork([] { made->mutex().lock(); }, [] { made->mutex().unlock(); },
                   [] { made->mutex().unlock(); });
    return made;
  }();
  return *instance;
}

}  // namespace

Block* acquire_block(std::size_t bytes) {
  return pool().acquire(bytes);
}
void release_block(Block* block) noexcept {
  pool().release(block);
}
MemoryStats memory_stats() {
  return pool().stats();
}
void reset_memory_peak() {
  pool().reset_peak();
}
void release_cached_memory() {
  pool().release_cached();
}
void set_memory_limit(std::size_t bytes) {
  pool().set_limit(bytes);
}

}  // namespace cnncore
