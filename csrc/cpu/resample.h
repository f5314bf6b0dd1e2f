// Separable linear sampling and its transpose. Meaning: contract.py.
#pragma once

#include "cnncore/taps.h"
#include "cnncore/view.h"

namespace cnncore {

// x (N, C, H, W), y (R, C', PH, PW); image (R,) or, with null data, image[r] = r.
template <class T>
void resample(ArrayView<const T> x, ArrayView<const std::int64_t> image, const TapsView& rows,
              const TapsView& cols, bool position_sensitive, ArrayView<T> y);

// gy (R, C', PH, PW), gx (N, C, H, W).
template <class T>
void resample_adjoint(ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                      const TapsView& rows, const TapsView& cols, bool position_sensitive,
                      ArrayView<T> gx);

}  // namespace cnncore
