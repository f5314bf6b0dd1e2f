// Layers without weights to speak of, on blocked arrays.
#pragma once

#include <vector>

#include "cpu/blocked/layout.h"
#include "cpu/finish.h"

namespace cnncore {

// (N, C, H, W) <-> (N, C/B, H, W, B)
template <class T>
void to_blocked(const BlockedShape& shape, const T* x, T* y);
template <class T>
void from_blocked(const BlockedShape& shape, const T* x, T* y);

// Maximum, or mean over `divisor` (0: over the pixels that exist), of each window.
template <class T>
void blocked_pool(const BlockedShape& shape, const Window2d& window, index_t out_height,
                  index_t out_width, bool maximum, index_t divisor, const T* x, T* y);

// Mean of each plane: (N, C/B, 1, 1, B).
template <class T>
void blocked_mean(const BlockedShape& shape, const T* x, T* y);

// y = f(x * a + b), a and b per channel (C/B, B), or a per image and channel (N, C/B, B); b may be
// null.
template <class T>
void blocked_affine(const BlockedShape& shape, const T* x, const T* a, bool a_per_image, const T* b,
                    const Finish<T>& finish, T* y);

// y[h, w] = x[rows[h], columns[w]]
template <class T>
void blocked_select(const BlockedShape& shape, const std::vector<index_t>& rows,
                    const std::vector<index_t>& columns, const T* x, T* y);

}  // namespace cnncore
