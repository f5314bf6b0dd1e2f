// What a convolution costs by each algorithm: the rule behind "auto", all of it.
//
// The unit is a step: one multiply-add of a whole vector by the micro-kernel, about 1/3600 of what
// a microsecond holds per core on the machine below. Transforms and copies were measured once and
// are stated in steps, too; so the rule needs no table of shapes and holds, roughly, for any
// machine on which arithmetic and caches are as much in proportion.
#pragma once

#include "cpu/conv/shape.h"

namespace cnncore {

// `width`: lanes of a vector. Shapes that the algorithm does not serve are not asked for.
using ConvCost = double (*)(const ConvShape& shape, ConvDirection direction, index_t width);

double im2col_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double implicit_gemm_steps(const ConvShape& shape, ConvDirection direction, index_t width);
// Whether its form for few pixels (joined.h) serves and costs less than the other.
bool implicit_gemm_joins(const ConvShape& shape, ConvDirection direction, index_t width);
double direct_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double depthwise_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double winograd_2x2_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double winograd_4x4_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double winograd_phases_3x3_steps(const ConvShape& shape, ConvDirection direction, index_t width);
double winograd_phases_4x4_steps(const ConvShape& shape, ConvDirection direction, index_t width);

}  // namespace cnncore
