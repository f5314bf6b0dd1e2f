// Sizes of this machine's caches, asked once: the only numbers that blocking may take from the
// machine. They may decide how results are cut up, never in which order a sum is added.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

struct Caches {
  index_t first, second, third;  // bytes: data of a core, of a core, of all; never 0
};

const Caches& caches();

}  // namespace cnncore
