// The loops over rows, one of each for every instruction set (isa/rows.cpp).
#pragma once

#include "cpu/dispatch_isa.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void row_moments_loop(const T* x, index_t rows, index_t length,
                                                   index_t stride, double* mean, double* squares))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void row_products_loop(
    const T* gy, const T* x, const T* mean, const T* y, T low, T high, index_t rows, index_t length,
    index_t stride, double* sums, double* products))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void row_limited_loop(const T* x, const T* a, const T* b,
                                                   const T* residual, T low, T high, index_t rows,
                                                   index_t length, index_t stride, T* y))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void row_linear2_loop(const T* x, const T* z, const T* a, const T* b,
                                                   const T* c, index_t rows, index_t length,
                                                   index_t stride, T* y))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void row_limited2_loop(
    const T* gy, const T* x, const T* a, const T* b, const T* c, const T* y, T low, T high,
    index_t rows, index_t length, index_t stride, T* gx))

}  // namespace cnncore
