// What the loops of max pooling are given; see cpu/pool.cpp.
#pragma once

#include "cnncore/geometry.h"

namespace cnncore {

struct MaxPoolPlan {
  index_t height, width, out_height, out_width;
  Window2d window;
  const std::int32_t* first_column;  // (OW,): input column of the first tap inside the plane
  const index_t* begin;              // (KW,): first window whose tap kw lies inside
  const index_t* end;                // (KW,): one past the last
};

}  // namespace cnncore
