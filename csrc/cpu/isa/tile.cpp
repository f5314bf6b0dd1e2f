// The micro-kernel of cpu/tile.h and the register transpose that goes with it.
#include "cpu/tile.h"

#include <utility>

#include "cpu/isa/simd.h"
#include "cpu/isa/transpose.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {
namespace {

// Accumulators that leave registers for one panel row and one broadcast: 14 x 2 of 32, 6 x 2 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 14;
#else
constexpr int kRows = 6;
#endif
static_assert(kRows <= kMaxTileRows, "TileKernels::run is too short");

// Rows whose addresses are kept in general registers; the offsets of the others are read again for
// every step, since compilers would move them to and from vector registers, which the accumulators
// need.
#if defined(__x86_64__)
constexpr int kRowsInRegisters = 8;
#else
constexpr int kRowsInRegisters = kMaxTileRows;
#endif

// Steps between two tests for the end. With 12 products a step the loop's own instructions would
// show wherever another program shares the core.
constexpr int kStepsAtOnce = kRows < 14 ? 4 : 1;

template <class T, int R, int V>
CNNCORE_HD void sum_tile(const TileArgs<T>& args, typename Simd<T>::vector (&acc)[R][V]) {
  constexpr int width = Simd<T>::width;
  using Vector = typename Simd<T>::vector;
  const T* rows[R];
  const volatile index_t* const row_table = args.row;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    rows[r] = args.source + args.row[r];
    // Or the compiler adds several at once in a vector register and reads them back at every step.
    if (r < kRowsInRegisters) __asm__("" : "+r"(rows[r]));
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[r][v] = Vector{};
  }
  const T* panel = args.panel;
  const index_t* depth = args.depth;
#pragma GCC unroll kStepsAtOnce
  for (const index_t* const end = depth + args.depth_count; depth != end; ++depth) {
    const index_t step = *depth;
    Vector b[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) b[v] = load(panel + v * width);
    panel += V * width;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T a = r < kRowsInRegisters ? rows[r][step] : args.source[row_table[r] + step];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[r][v] += a * b[v];
    }
  }
}

template <class T, int R, int V>
void run_tile(const TileArgs<T>& args) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::vector acc[R][V];
  sum_tile<T, R, V>(args, acc);
  const bool accumulate = args.accumulate;
  const index_t tile_stride = args.tile_stride;
  T* row = args.tile;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, row += tile_stride) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      store(row + v * width, accumulate ? load(row + v * width) + acc[r][v] : acc[r][v]);
  }
}

template <class T, int R, int V>
void run_tile_store(const TileArgs<T>& args, const StoreArgs<T>& to) {
  constexpr int width = Simd<T>::width;
  using Vector = typename Simd<T>::vector;
  Vector acc[R][V];
  sum_tile<T, R, V>(args, acc);
  const Vector low = broadcast(to.low), high = broadcast(to.high);
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    T* const target = to.target + v * to.vector_stride;
    const T* const residual = to.residual != nullptr ? to.residual + v * to.vector_stride : nullptr;
    const Vector bias = load(to.bias + v * width);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const index_t place = to.place[r];
      Vector y = acc[r][v];
      if (to.accumulate) y += load(target + place);
      if (to.finish) {
        y += bias;
        if (residual != nullptr) y += load(residual + place);
        y = y <= low ? low : y;  // NaN stays
        y = y > high ? high : y;
      }
      store(target + place, y);
    }
  }
}

// Transposes a square block in registers.
template <class T>
CNNCORE_HD void transpose_block(const T* in, index_t in_stride, T* out, index_t out_stride,
                                const T* bias) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::vector a[width];
#pragma GCC unroll 16
  for (int r = 0; r < width; ++r) a[r] = load(in + r * in_stride);
  transpose_square<T>(a);
#pragma GCC unroll 16
  for (int c = 0; c < width; ++c)
    store(out + c * out_stride, bias != nullptr ? a[c] + bias[c] : a[c]);
}

template <class T>
void transpose(const T* in, index_t in_stride, index_t rows, index_t columns, T* out,
               index_t out_stride, const T* bias) {
  constexpr index_t width = Simd<T>::width;
  for (index_t c = 0; c < columns; c += width) {
    const index_t column_count = min_of(width, columns - c);
    const T* const bias_c = bias != nullptr ? bias + c : nullptr;
    index_t r = 0;
    if (column_count == width)
      for (; r + width <= rows; r += width)
        transpose_block(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride,
                        bias_c);
    for (index_t j = 0; j < column_count && r < rows; ++j) {
      const T add = bias != nullptr ? bias_c[j] : T(0);
      for (index_t i = r; i < rows; ++i)
        out[(c + j) * out_stride + i] = in[i * in_stride + c + j] + add;
    }
  }
}

template <class T>
void copy_row(const T* from, T* to) {
  constexpr int width = Simd<T>::width;
  store(to, load(from));
  store(to + width, load(from + width));
}

template <class T, int V, int... R>
CNNCORE_HD void fill(TileKernels<T>& table, std::integer_sequence<int, R...>) {
  ((table.run[V - 1][R + 1] = &run_tile<T, R + 1, V>), ...);
  ((table.run_store[V - 1][R + 1] = &run_tile_store<T, R + 1, V>), ...);
}

template <class T>
CNNCORE_HD TileKernels<T> make_table() {
  TileKernels<T> table{};
  table.rows = kRows;
  table.width = Simd<T>::width;
  fill<T, 1>(table, std::make_integer_sequence<int, kRows>());
  fill<T, 2>(table, std::make_integer_sequence<int, kRows>());
  table.transpose = &transpose<T>;
  table.copy_row = &copy_row<T>;
  return table;
}

}  // namespace

const TileKernels<float>& tile_kernels_f32() {
  static const TileKernels<float> table = make_table<float>();
  return table;
}

const TileKernels<double>& tile_kernels_f64() {
  static const TileKernels<double> table = make_table<double>();
  return table;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
