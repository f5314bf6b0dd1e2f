// y (+)= Rows x Colsᵀ on a block of channels, the channels side by side in a vector: no tap needs a
// gather, and each weight is one broadcast. See cpu/resample_block.cpp.
#include "cpu/isa/resample_block.h"

#include "cpu/isa/mix_lines.h"

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
    mix_lines<typename Block<T>::vector>(
        taps, cols.span, line, [&](index_t t, const T*& from, T& weight) {
          const index_t slot = t * rows.pitch + p;
          from = pair.x + ((rows.low + rows.index[slot]) * pair.x_width + cols.low) * kChannelBlock;
          weight = rows.weight[slot];
        });
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
