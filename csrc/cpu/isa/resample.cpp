// y (+)= Rows x Colsᵀ on one plane: sparse rows into a line that stays in L1, then sparse columns.
// See cpu/resample.cpp.
#include "cpu/isa/resample.h"

#include "cpu/isa/lanes.h"
#include "cpu/isa/mix_lines.h"
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

// The columns that outputs read, of the rows of a plane, in vectors.
template <class T>
struct RowsOf {
  const T *x, *x_end;  // the first column read, of the first row read
  index_t stride, span, whole;

  // What is behind the last whole vector lies within the array except in its last rows.
  CNNCORE_HD RowsOf(const PlanePair<T>& plane, const AxisGroup<T>& rows, const AxisGroup<T>& cols)
      : x(plane.x + rows.low * plane.x_stride + cols.low),
        x_end(plane.x_end),
        stride(plane.x_stride),
        span(cols.span),
        whole(ceil_div(span, Simd<T>::width)) {
    if (x_end - (x + (max_of(1, rows.span) - 1) * stride) < whole * Simd<T>::width)
      whole = span / Simd<T>::width;
  }
};

// line[i] = Σ_t weight · x[row t, low + i]: the rows that output row p mixes, and the zero slot.
template <class T>
CNNCORE_HD void mix_rows(const RowsOf<T>& from, const AxisGroup<T>& rows, index_t p, T* line) {
  constexpr index_t width = Simd<T>::width;
  const index_t taps = rows.count[p];
  const std::int32_t* const index = rows.index + p;
  const T* const weight = rows.weight + p;
  const auto row = [&](index_t t) { return from.x + index[t * rows.pitch] * from.stride; };
  if (taps == 2) {  // bilinear, and windows of 2 rows
    const T *const a = row(0), *const b = row(1);
    const T u = weight[0], v = weight[rows.pitch];
    for (index_t i = 0; i < from.whole * width; i += width)
      store(line + i, u * load(a + i) + v * load(b + i));
  } else if (taps == 0) {
    for (index_t i = 0; i < from.span; ++i) line[i] = 0;
  } else {
    mix_lines<typename Simd<T>::unaligned>(taps, from.whole, line,
                                           [&](index_t t, const T*& at, T& w) {
                                             at = row(t);
                                             w = weight[t * rows.pitch];
                                           });
  }
  if (from.whole * width < from.span) {
    typename Simd<T>::vector sum{};
    for (index_t t = 0; t < taps; ++t)
      sum += weight[t * rows.pitch] * load_within(row(t) + from.whole * width, from.x_end);
    store(line + from.whole * width, sum);
  }
  line[from.span] = 0;
}

template <bool accumulate, class T>
CNNCORE_HD void put(T& to, T value) {
  to = accumulate ? to + value : value;
}

// y[q] (+)= Σ_t weight · line[index], any indices.
template <bool accumulate, class T>
void mix_columns_indexed(const T* __restrict line, const AxisGroup<T>& cols, T* __restrict y) {
  for (index_t q = 0; q < cols.length; q += kAxisBlock) {
    T out[kAxisBlock] = {};
    for (index_t t = 0; t < cols.taps; ++t) {
      const std::int32_t* __restrict index = cols.index + t * cols.pitch + q;
      const T* __restrict weight = cols.weight + t * cols.pitch + q;
      for (index_t l = 0; l < kAxisBlock; ++l) out[l] += weight[l] * line[index[l]];
    }
    const index_t count = min_of(kAxisBlock, cols.length - q);
    for (index_t l = 0; l < count; ++l) put<accumulate>(y[q + l], out[l]);
  }
}

template <class T>
constexpr bool kWindows = Simd<T>::width == kAxisBlock;

// The same for several rows of outputs at once, their lines line_pitch apart, where a register
// holds a block (AVX-512) and two hold the inputs of a block's tap.
template <int count, bool accumulate, bool missing, class T>
void mix_columns_windowed(const T* lines, index_t line_pitch, const AxisGroup<T>& cols, T* y,
                          index_t y_stride) {
  using Value = typename Simd<T>::vector;
  const index_t blocks = cols.pitch / kAxisBlock;
  const auto zero_slot = static_cast<std::int32_t>(cols.span);
  for (index_t b = 0; b < blocks; ++b) {
    Value sum[count] = {};
    for (index_t t = 0; t < cols.taps; ++t) {
      const index_t slot = t * blocks + b;
      const std::int32_t window = cols.window[slot];
      const auto index = load(cols.index + slot * kAxisBlock);
      const auto weight = load(cols.weight + slot * kAxisBlock);
      for (int r = 0; r < count; ++r) {
        const T* const from = lines + r * line_pitch + window;
        Value value = __builtin_shuffle(load(from), load(from + kAxisBlock), index - window);
        if constexpr (missing) value = index == zero_slot ? Value{} : value;
        sum[r] += weight * value;
      }
    }
    const index_t q = b * kAxisBlock;
    const Lanes<T> lanes(0, cols.length - q);
    for (int r = 0; r < count; ++r) {
      T* const to = y + r * y_stride + q;
      store_lanes(to, accumulate ? sum[r] + load_lanes(to, lanes) : sum[r], lanes);
    }
  }
}

template <int count, class T>
void mix_columns_of(const PlanePair<T>& plane, const AxisGroup<T>& cols, const T* lines,
                    index_t pitch, T* y) {
  const bool missing = !cols.full && cols.span >= 2 * kAxisBlock;
  const auto mix = plane.accumulate ? missing ? mix_columns_windowed<count, true, true, T>
                                              : mix_columns_windowed<count, true, false, T>
                   : missing        ? mix_columns_windowed<count, false, true, T>
                                    : mix_columns_windowed<count, false, false, T>;
  mix(lines, pitch, cols, y, plane.y_stride);
}

// kLines rows of outputs at a time: what belongs to a block of columns is loaded once for all.
template <class T>
void resample_by_windows(const PlanePair<T>& plane, const AxisGroup<T>& rows,
                         const AxisGroup<T>& cols, T* lines) {
  const index_t pitch = cols.line();
  const RowsOf<T> from(plane, rows, cols);
  for (index_t p = 0; p < rows.length;) {
    const index_t count = rows.length - p < kLines ? 1 : kLines;
    for (index_t r = 0; r < count; ++r) mix_rows(from, rows, p + r, lines + r * pitch);
    T* const y = plane.y + (rows.begin + p) * plane.y_stride + cols.begin;
    if (count == 1)
      mix_columns_of<1>(plane, cols, lines, pitch, y);
    else
      mix_columns_of<kLines>(plane, cols, lines, pitch, y);
    p += count;
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

// `line` holds kLines lines.
template <class T>
void resample_plane_loop(const PlanePair<T>& plane, const AxisGroup<T>& rows,
                         const AxisGroup<T>& cols, T* line) {
  if (cols.taps == 0 && plane.accumulate) return;
  if constexpr (kWindows<T>)
    if (cols.window != nullptr && cols.step == 0 && cols.repeat == 0)
      return resample_by_windows(plane, rows, cols, line);
  const RowsOf<T> source(plane, rows, cols);
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
        mix_rows(source, rows, p, line);
      if (plane.accumulate)
        mix_columns<true>(from, cols, y);
      else
        mix_columns<false>(from, cols, y);
    }
  }
}

template <class T>
bool resample_windows() {
  return kWindows<T>;
}

template bool resample_windows<float>();
template bool resample_windows<double>();
template void resample_plane_loop(const PlanePair<float>&, const AxisGroup<float>&,
                                  const AxisGroup<float>&, float*);
template void resample_plane_loop(const PlanePair<double>&, const AxisGroup<double>&,
                                  const AxisGroup<double>&, double*);

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
