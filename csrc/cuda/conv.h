// The convolution family and matrix products on a device. Meaning: contract.py.
#pragma once

#include "cuda/narrow.h"
#include "cuda/tile_product.h"
#include "cuda/workspace.h"

namespace cnncore::cuda {

enum class ConvAlgorithm { automatic, direct, im2col, implicit_gemm };

struct ConvHow {
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
  bool tf32 = false;  // whether float32 may be multiplied as TF32
};

// x (N, C, H, W), weight (O, C/G, KH, KW) -> y (N, O, OH, OW), finished.
template <class T>
void conv2d(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* x, const T* weight,
            const Finishing<T>& finishing, T* y, Workspace& workspace);

// y (N, O, OH, OW), weight (O, C/G, KH, KW) -> x (N, C, H, W), finished.
template <class T>
void conv_transpose2d(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* y,
                      const T* weight, const Finishing<T>& finishing, T* x, Workspace& workspace);

// x (N, C, H, W), gy (N, O, OH, OW) -> gweight (O, C/G, KH, KW).
template <class T>
void conv2d_weight(const Queue& queue, const ConvShape& s, const ConvHow& how, const T* x,
                   const T* gy, T* gweight, Workspace& workspace);

// c[u] = a[u] b[u], u < plan.units.
template <class T>
void matmul(const Queue& queue, const MatrixPlan& plan, bool tf32, const T* a, const T* b, T* c,
            Workspace& workspace);

// x (planes, H, W) -> cols (planes, KH, KW, OH, OW), and its transpose.
template <class T>
void im2col(const Queue& queue, const T* x, index_t planes, index_t height, index_t width,
            const Window2d& window, T* cols);
template <class T>
void col2im(const Queue& queue, const T* cols, index_t planes, index_t height, index_t width,
            const Window2d& window, T* x);

}  // namespace cnncore::cuda
