#include "cpu/caches.h"

#include <unistd.h>

namespace cnncore {
namespace {

// What the system says, within reason: virtual machines report 0, or caches they do not have.
index_t size_of(int name, index_t usual, index_t least, index_t most) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const long bytes = sysconf(name);
  if (bytes >= least && bytes <= most) return bytes;
#else
  (void)name, (void)least, (void)most;
#endif
  return usual;
}

}  // namespace

const Caches& caches() {
  constexpr index_t kilobyte = 1024, megabyte = kilobyte * kilobyte;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  constexpr int first = _SC_LEVEL1_DCACHE_SIZE, second = _SC_LEVEL2_CACHE_SIZE,
                third = _SC_LEVEL3_CACHE_SIZE;
#else
  constexpr int first = 0, second = 0, third = 0;
#endif
  static const Caches known{
      size_of(first, 32 * kilobyte, 8 * kilobyte, megabyte),
      size_of(second, 512 * kilobyte, 128 * kilobyte, 16 * megabyte),
      size_of(third, 8 * megabyte, megabyte, 1024 * megabyte),
  };
  return known;
}

}  // namespace cnncore
