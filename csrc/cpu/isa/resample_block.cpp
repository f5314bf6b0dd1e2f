// y (+)= Rows x Colsᵀ on a block of channels, the channels side by side in a vector: no tap needs a
// gather, and each weight is one broadcast. See cpu/resample_block.cpp.
#include "cpu/isa/resample_block.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

template <class T>
struct Block {
  typedef T vector
      __attribute__((vector_size(kChannelBlock * sizeof(T)), aligned(alignof(T)), may_alias));
};

template <class T>
CNNCORE_HD typename Block<T>::vector& at(T* pixels, index_t pixel) {
  return *reinterpret_cast<typename Block<T>::vector*>(pixels + pixel * kChannelBlock);
}
template <class T>
CNNCORE_HD const typename Block<T>::vector& at(const T* pixels, index_t pixel) {
  return *reinterpret_cast<const typename Block<T>::vector*>(pixels + pixel * kChannelBlock);
}

// line[j] = Σ_t weight · x[row t, low + j], `taps` rows at a time.
template <int taps, class T>
CNNCORE_HD void mix_lines(const BlockPair<T>& pair, const AxisGroup<T>& rows, index_t p, index_t t,
                          const AxisGroup<T>& cols, T* line) {
  const T* from[taps];
  T weight[taps];
  for (int k = 0; k < taps; ++k) {
    const index_t slot = (t + k) * rows.pitch + p;
    from[k] = pair.x + ((rows.low + rows.index[slot]) * pair.x_width + cols.low) * kChannelBlock;
    weight[k] = rows.weight[slot];
  }
  for (index_t j = 0; j < cols.span; ++j) {
    typename Block<T>::vector sum = weight[0] * at(from[0], j);
#pragma GCC unroll 4
    for (int k = 1; k < taps; ++k) sum += weight[k] * at(from[k], j);
    if (t > 0) sum += at(line, j);
    at(line, j) = sum;
  }
}

}  // namespace

// `line` holds cols.span blocks.
template <class T>
void resample_block_loop(const BlockPair<T>& pair, const AxisGroup<T>& rows,
                         const AxisGroup<T>& cols, T* line) {
  for (index_t p = 0; p < rows.length; ++p) {
    T* const y = pair.y + ((rows.begin + p) * pair.y_width + cols.begin) * kChannelBlock;
    const index_t taps = rows.count[p];
    if (taps == 0 || cols.taps == 0) {
      if (!pair.accumulate)
        for (index_t q = 0; q < cols.length; ++q) at(y, q) = typename Block<T>::vector{};
      continue;
    }
    for (index_t t = 0; t < taps; t += 4) switch (taps - t) {
        case 1:
          mix_lines<1>(pair, rows, p, t, cols, line);
          break;
        case 2:
          mix_lines<2>(pair, rows, p, t, cols, line);
          break;
        case 3:
          mix_lines<3>(pair, rows, p, t, cols, line);
          break;
        default:
          mix_lines<4>(pair, rows, p, t, cols, line);
      }
    for (index_t q = 0; q < cols.length; ++q) {
      typename Block<T>::vector sum{};
      for (index_t t = 0; t < cols.count[q]; ++t)
        sum += cols.weight[t * cols.pitch + q] * at(line, cols.index[t * cols.pitch + q]);
      if (pair.accumulate)
        at(y, q) += sum;
      else
        at(y, q) = sum;
    }
  }
}

template void resample_block_loop(const BlockPair<float>&, const AxisGroup<float>&,
                                  const AxisGroup<float>&, float*);
template void resample_block_loop(const BlockPair<double>&, const AxisGroup<double>&,
                                  const AxisGroup<double>&, double*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
