// y (+)= Rows x Colsᵀ on one plane: sparse rows into a line that stays in L1, then sparse columns.
// See cpu/resample.cpp.
#include "cpu/isa/resample.h"

#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// A vector that may reach beyond a row, into whatever follows, but not beyond the array.
template <class T>
CNNCORE_HD typename Simd<T>::vector load_within(const T* p, const T* end) {
  if (end - p >= Simd<T>::width) return load(p);
  typename Simd<T>::vector v{};
  for (index_t lane = 0; lane < end - p; ++lane) v[lane] = p[lane];
  return v;
}

// line[i] = Σ_t weight · x[row t, low + i]: the rows that output row p mixes, and the zero slot.
template <class T>
void mix_rows(const PlanePair<T>& plane, const AxisGroup<T>& rows, index_t p,
              const AxisGroup<T>& cols, T* __restrict line) {
  for (index_t i = 0; i < cols.span; i += Simd<T>::width) {
    typename Simd<T>::vector sum{};
    for (index_t t = 0; t < rows.count[p]; ++t) {
      const index_t slot = t * rows.pitch + p;
      const T* from = plane.x + (rows.low + rows.index[slot]) * plane.x_stride + cols.low + i;
      sum += rows.weight[slot] * load_within(from, plane.x_end);
    }
    store(line + i, sum);
  }
  line[cols.span] = 0;
}

template <bool accumulate, class T>
CNNCORE_HD void put(T& to, T value) {
  to = accumulate ? to + value : value;
}

// One block of outputs: out[l] = Σ_t weight · line[index].
template <class T>
CNNCORE_HD void mix_block(const T* __restrict line, const AxisGroup<T>& cols, index_t q,
                          T* __restrict out) {
  for (index_t l = 0; l < kAxisBlock; ++l) out[l] = 0;
  for (index_t t = 0; t < cols.taps; ++t) {
    const std::int32_t* __restrict index = cols.index + t * cols.pitch + q;
    const T* __restrict weight = cols.weight + t * cols.pitch + q;
    for (index_t l = 0; l < kAxisBlock; ++l) out[l] += weight[l] * line[index[l]];
  }
}

// The same for a line that fits into two registers, where a register holds a block (AVX-512).
CNNCORE_HD void mix_block_in_registers(const float* line, const AxisGroup<float>& cols, index_t q,
                                       float* out) {
  using Indices = Simd<std::int32_t>::vector;
  const auto low = load(line);
  const auto high = load(line + kAxisBlock);
  Simd<float>::vector sum{};
  for (index_t t = 0; t < cols.taps; ++t) {
    const Indices index = load(cols.index + t * cols.pitch + q);
    sum += load(cols.weight + t * cols.pitch + q) * __builtin_shuffle(low, high, index);
  }
  store(out, sum);
}

template <bool accumulate, class T>
void mix_columns_indexed(const T* line, const AxisGroup<T>& cols, T* __restrict y) {
  for (index_t q = 0; q < cols.length; q += kAxisBlock) {
    T out[kAxisBlock];
    if constexpr (Simd<T>::width == kAxisBlock) {
      if (cols.span + (cols.full ? 0 : 1) <= 2 * kAxisBlock)
        mix_block_in_registers(line, cols, q, out);
      else
        mix_block(line, cols, q, out);
    } else {
      mix_block(line, cols, q, out);
    }
    if (q + kAxisBlock <= cols.length)
      for (index_t l = 0; l < kAxisBlock; ++l) put<accumulate>(y[q + l], out[l]);
    else
      for (index_t l = 0; q + l < cols.length; ++l) put<accumulate>(y[q + l], out[l]);
  }
}

template <bool accumulate, int step, int taps, class T>
void mix_columns_step(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  const index_t n = cols.length;
  const T* from[taps];
  T weight[taps];
  for (int t = 0; t < taps; ++t) {
    from[t] = line + cols.index[t * cols.pitch];
    weight[t] = cols.weight[t * cols.pitch];
  }
  for (index_t q = 0; q < n; ++q) {
    T sum = weight[0] * from[0][step * q];
    for (int t = 1; t < taps; ++t) sum += weight[t] * from[t][step * q];
    put<accumulate>(y[q], sum);
  }
}

template <bool accumulate, class T>
void mix_columns_repeat2(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  const T weight = cols.weight[0];
  for (index_t s = 0; s < cols.span; ++s) {
    const T value = weight * line[s];
    put<accumulate>(y[2 * s], value);
    put<accumulate>(y[2 * s + 1], value);
  }
}

// y[q] (+)= Σ_t weight · line[index]: what output column q mixes.
template <bool accumulate, class T>
void mix_columns(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  if (cols.repeat == 2) return mix_columns_repeat2<accumulate>(line, cols, y);
  if (cols.step == 1 && cols.taps == 1) return mix_columns_step<accumulate, 1, 1>(line, cols, y);
  if (cols.step == 1 && cols.taps == 3) return mix_columns_step<accumulate, 1, 3>(line, cols, y);
  if (cols.step == 2 && cols.taps == 2) return mix_columns_step<accumulate, 2, 2>(line, cols, y);
  if (cols.length > 2) return mix_columns_indexed<accumulate>(line, cols, y);
  for (index_t q = 0; q < cols.length; ++q) {  // a global average, for example
    T sum = 0;
    for (index_t t = 0; t < cols.count[q]; ++t)
      sum += cols.weight[t * cols.pitch + q] * line[cols.index[t * cols.pitch + q]];
    put<accumulate>(y[q], sum);
  }
}

template <class T>
bool same_row(const AxisGroup<T>& rows, index_t a, index_t b) {
  if (rows.count[a] != rows.count[b]) return false;
  for (index_t t = 0; t < rows.count[a]; ++t) {
    const index_t i = t * rows.pitch + a, j = t * rows.pitch + b;
    if (rows.index[i] != rows.index[j] || rows.weight[i] != rows.weight[j]) return false;
  }
  return true;
}

}  // namespace

// `line` holds Axis::line() elements.
template <class T>
void resample_plane_loop(const PlanePair<T>& plane, const AxisGroup<T>& rows,
                         const AxisGroup<T>& cols, T* line) {
  if (cols.taps == 0 && plane.accumulate) return;
  for (index_t p = 0; p < rows.length; ++p) {
    T* y = plane.y + (rows.begin + p) * plane.y_stride + cols.begin;
    if (rows.count[p] == 0 || cols.taps == 0) {
      if (!plane.accumulate)
        for (index_t q = 0; q < cols.length; ++q) y[q] = 0;
    } else if (p > 0 && !plane.accumulate && same_row(rows, p, p - 1)) {
      const T* before = y - plane.y_stride;
      for (index_t q = 0; q < cols.length; ++q) y[q] = before[q];
    } else {
      const T* from = line;
      // A single row as it is can be read in place, where no index may point at the zero slot.
      if (rows.count[p] == 1 && rows.weight[p] == T(1) && (cols.step > 0 || cols.repeat > 0))
        from = plane.x + (rows.low + rows.index[p]) * plane.x_stride + cols.low;
      else
        mix_rows(plane, rows, p, cols, line);
      if (plane.accumulate)
        mix_columns<true>(from, cols, y);
      else
        mix_columns<false>(from, cols, y);
    }
  }
}

template void resample_plane_loop(const PlanePair<float>&, const AxisGroup<float>&,
                                  const AxisGroup<float>&, float*);
template void resample_plane_loop(const PlanePair<double>&, const AxisGroup<double>&,
                                  const AxisGroup<double>&, double*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
