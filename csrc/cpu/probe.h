// What the machine can do at best: the two limits that a roofline is drawn from.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

// Fused multiply-adds that never wait for memory or for each other, on all threads; returns how
// many floating-point operations were done (a multiply-add counts two).
template <class T>
double probe_arithmetic(index_t rounds);

// a[i] = b[i] + s · c[i], `sweeps` times over, each thread on its own part. Three arrays are moved
// (a fourth, a's old value, where the machine reads a line before writing it).
void probe_memory(float* a, const float* b, const float* c, index_t count, index_t sweeps);

}  // namespace cnncore
