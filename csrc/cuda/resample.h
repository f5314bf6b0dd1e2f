// Separable linear sampling and its transpose on a device. Meaning: contract.py.
#pragma once

#include "cnncore/geometry.h"
#include "cnncore/view.h"
#include "cuda/queue.h"
#include "cuda/workspace.h"

namespace cnncore::cuda {

// Taps (cnncore/taps.h) as devices read them: short indices, weights of the element type.
template <class T>
struct DeviceTaps {
  index_t size, groups, length, taps;
  const std::int32_t* index;
  const T* weight;
  const std::int32_t* count;

  CNNCORE_HD index_t row(index_t region, index_t p) const {
    return (groups == 1 ? 0 : region) * length + p;
  }
};

// x (N, C, H, W), y (R, C', PH, PW); image (R,) or, with null data, image[r] = r.
template <class T>
void resample(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
              const DeviceTaps<T>& rows, const DeviceTaps<T>& cols, bool position_sensitive,
              ArrayView<T> y);

// gy (R, C', PH, PW), gx (N, C, H, W).
template <class T>
void resample_adjoint(const Queue& queue, ArrayView<const T> gy,
                      ArrayView<const std::int64_t> image, const DeviceTaps<T>& rows,
                      const DeviceTaps<T>& cols, bool position_sensitive, ArrayView<T> gx,
                      Workspace& workspace);

}  // namespace cnncore::cuda
