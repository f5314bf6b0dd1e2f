// The micro-kernel of cpu/plane_tile.h and the small loops around it.
#include "cpu/plane_tile.h"

#include <utility>

#include "cpu/isa/lanes.h"
#include "cpu/isa/transpose.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Sums that leave registers for two vectors of pixels and one weight: 14 x 2 of 32, 6 x 2 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 14;
#else
constexpr int kRows = 6;
#endif
static_assert(kRows <= kMaxPlaneRows, "PlaneTileKernels::run is too short");

// Packed weights lie in whole vectors, so that packing is a register transpose.
template <class T>
constexpr int kPitch = (kRows + Simd<T>::width - 1) / Simd<T>::width * Simd<T>::width;

// One step along the sum.  `lanes`: of the last vector, unless it is whole.
template <bool kWhole, class T, int R, int V>
CNNCORE_HD void add_products(const T* source, const T* weights, const Lanes<T>& lanes,
                             typename Simd<T>::vector (&sum)[R][V]) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::vector pixels[V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v)
    pixels[v] =
        kWhole || v < V - 1 ? load(source + v * width) : load_lanes(source + v * width, lanes);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const T weight = weights[r];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] += weight * pixels[v];
  }
}

template <bool kPanel, bool kWhole, class T, int R, int V>
CNNCORE_HD void sum_tile(const PlaneTileArgs<T>& args, const Lanes<T>& lanes,
                         typename Simd<T>::vector (&sum)[R][V]) {
  constexpr int width = Simd<T>::width;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = broadcast(args.bias != nullptr ? args.bias[r] : T(0));
  const T* weights = args.weights;
  if (kPanel) {
    // With AVX2 a step is 12 products and 8 loads. The table, the requests ahead and the end of the
    // loop were 8 instructions more, which took a seventh of its speed from a core shared with
    // another program.
    const T* source = args.source;
#pragma GCC unroll 4
    for (index_t k = 0; k < args.depth; ++k, source += 2 * width, weights += kPitch<T>)
      add_products<true>(source, weights, lanes, sum);
    return;
  }
  const T* const ahead = args.ahead;
  const index_t* offset = args.offset;
  for (const index_t* const end = offset + args.depth; offset != end; ++offset) {
    const T* const source = args.source + *offset;
    // Every step reads another plane, which no hardware foresees: ask for the next tile's pixels.
    __builtin_prefetch(source + V * width);
    if (V == 2 && kVectorBytes == kLineBytes) __builtin_prefetch(source + 3 * width);
    __builtin_prefetch(ahead + *offset, 0, 2);
    add_products<kWhole>(source, weights, lanes, sum);
    weights += kPitch<T>;
  }
}

// The results go to as many planes as there are rows: they are asked for before they are needed.
template <class T, int R, int V, bool kWhole, bool kPanel>
void run_tile(const PlaneTileArgs<T>& args) {
  constexpr int width = Simd<T>::width;
  const Lanes<T> lanes(0, args.lanes - (V - 1) * width);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    __builtin_prefetch(args.target + r * args.target_stride, 1);
    if (V == 2) __builtin_prefetch(args.target + r * args.target_stride + width, 1);
  }
  typename Simd<T>::vector sum[R][V];
  sum_tile<kPanel, kWhole>(args, lanes, sum);
  T* target = args.target;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, target += args.target_stride) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if (kWhole || v < V - 1)
        store(target + v * width, sum[r][v]);
      else
        store_lanes(target + v * width, sum[r][v], lanes);
    }
  }
}

template <class T, int P, int V>
void run_pairs(const PlaneTileArgs<T>& args) {
  constexpr int width = Simd<T>::width;
  constexpr auto numbers = std::make_index_sequence<width>();
#pragma GCC unroll 8
  for (int q = 0; q < P; ++q)
#pragma GCC unroll 4
    for (int v = 0; v < 2 * V; ++v) __builtin_prefetch(args.target + args.place[q] + v * width, 1);
  typename Simd<T>::vector sum[2 * P][V];
  sum_tile<true, true>(args, Lanes<T>(), sum);
#pragma GCC unroll 8
  for (int q = 0; q < P; ++q) {
    T* const target = args.target + args.place[q];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      store(target + 2 * v * width, interleave_low(sum[2 * q][v], sum[2 * q + 1][v], numbers));
      store(target + (2 * v + 1) * width,
            interleave_high(sum[2 * q][v], sum[2 * q + 1][v], numbers));
    }
  }
}

template <class T>
void pack(const T* in, index_t in_stride, index_t rows, index_t count, T* out) {
  constexpr index_t width = Simd<T>::width, pitch = kPitch<T>;
  for (index_t r = 0; r < rows; r += width) {
    index_t i = 0;
    if (r + width <= rows)
      for (; i + width <= count; i += width) {
        typename Simd<T>::vector a[width];
#pragma GCC unroll 16
        for (int k = 0; k < width; ++k) a[k] = load(in + (r + k) * in_stride + i);
        transpose_square<T>(a);
#pragma GCC unroll 16
        for (int k = 0; k < width; ++k) store(out + (i + k) * pitch + r, a[k]);
      }
    for (; i < count; ++i)
      for (index_t k = r; k < min_of(rows, r + width); ++k)
        out[i * pitch + k] = in[k * in_stride + i];
  }
}

template <class T>
void split(const T* from, index_t count, T* to, index_t pitch) {
  constexpr index_t width = Simd<T>::width;
  index_t i = 0;
  for (; i + 2 * width <= count; i += 2 * width, to += pitch) {
    store(to, load(from + i));
    store(to + width, load(from + i + width));
  }
  for (index_t k = 0; i + k < count; ++k) to[k] = from[i + k];
}

template <class T>
void interleave(const T* even, const T* odd, index_t count, T* to) {
  constexpr index_t width = Simd<T>::width;
  constexpr auto lanes = std::make_index_sequence<width>();
  index_t i = 0;
  for (; i + width <= count; i += width) {
    const auto a = load(even + i), b = load(odd + i);
    store(to + 2 * i, interleave_low(a, b, lanes));
    store(to + 2 * i + width, interleave_high(a, b, lanes));
  }
  for (; i < count; ++i) {
    to[2 * i] = even[i];
    to[2 * i + 1] = odd[i];
  }
}

template <class T>
void skip(const T* from, index_t count, T* to) {
  constexpr index_t width = Simd<T>::width;
  index_t i = 0;
  // The last vector would read one element too far.
  for (; i + width < count; i += width)
    store(to + i, even_lanes(load(from + 2 * i), load(from + 2 * i + width), lane_numbers<T>()));
  for (; i < count; ++i) to[i] = from[2 * i];
}

template <bool kPanel, class T, int... R>
CNNCORE_HD void fill(PlaneTileKernels<T>& table, std::integer_sequence<int, R...>) {
  ((table.run[kPanel][0][0][R + 1] = &run_tile<T, R + 1, 1, false, kPanel>), ...);
  ((table.run[kPanel][0][1][R + 1] = &run_tile<T, R + 1, 1, true, kPanel>), ...);
  ((table.run[kPanel][1][0][R + 1] = &run_tile<T, R + 1, 2, false, kPanel>), ...);
  ((table.run[kPanel][1][1][R + 1] = &run_tile<T, R + 1, 2, true, kPanel>), ...);
}

template <class T, int... P>
CNNCORE_HD void fill_pairs(PlaneTileKernels<T>& table, std::integer_sequence<int, P...>) {
  ((table.run_pairs[0][P + 1] = &run_pairs<T, P + 1, 1>), ...);
  ((table.run_pairs[1][P + 1] = &run_pairs<T, P + 1, 2>), ...);
}

template <class T>
CNNCORE_HD PlaneTileKernels<T> make_table() {
  PlaneTileKernels<T> table{};
  table.rows = kRows;
  table.width = Simd<T>::width;
  table.pitch = kPitch<T>;
  fill<false>(table, std::make_integer_sequence<int, kRows>());
  fill<true>(table, std::make_integer_sequence<int, kRows>());
  fill_pairs(table, std::make_integer_sequence<int, kRows / 2>());
  table.pack = &pack<T>;
  table.split = &split<T>;
  table.interleave = &interleave<T>;
  table.skip = &skip<T>;
  return table;
}

}  // namespace

const PlaneTileKernels<float>& plane_tile_kernels_f32() {
  static const PlaneTileKernels<float> table = make_table<float>();
  return table;
}

const PlaneTileKernels<double>& plane_tile_kernels_f64() {
  static const PlaneTileKernels<double> table = make_table<double>();
  return table;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
