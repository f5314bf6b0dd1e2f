// The tiled matrix product under conv2d, conv_transpose2d, conv2d_weight and matmul.
//
// A block computes a tile of kRows x kColumns of C = A B (products.h says what A and B are),
// walking the sum in slices of kDepth. For each slice both factors are gathered into shared memory,
// element by element where neighbours are scattered or may fall outside the plane, 16 bytes at a
// time where the operand promises that they are together; the column matrix of a convolution exists
// there and nowhere else. Why these choices:
//
// - Copies of slice i + kStages - 1 are begun before slice i is multiplied (cp.async, sm_80 and
//   later), so memory is waited for kStages - 1 slices later: one barrier a slice.
// - A slice is 64 bytes of the sum (16 floats, 32 halves). A row of a tile that runs along the sum
//   is padded by 16 bytes: eight consecutive rows then begin in eight different groups of banks,
//   which is what ldmatrix, the 16-byte copies and the scalar reads of a fragment need. A tile that
//   runs along rows or columns is padded by 32 bytes (16 for 16-bit types) for the same reason.
// - Addresses are sums of two table entries (sites.h). Those of the tile's rows and columns are
//   filled once, those of the sum one slice ahead, by as many threads as the slice is deep:
//   divisions are off the path of the copies.
// - Tensor cores: four warps, each a quarter of the tile (64 x 64 of 128 x 128), so that a word
// read
//   from shared memory serves 32 products; reads and products then balance. Products are
//   mma.m16n8k8 (TF32) or m16n8k16 (float16, bfloat16), sums are float.
// - Otherwise (float32 proper, float64): 256 threads, each kRows/16 x kColumns/16 results.
// - A sum that is long beside its result (weight gradients, small planes) is split into `splits`
//   fixed runs of slices by different blocks; each writes its part, and finish_partials adds the
//   parts in order. Which run is whose depends on shapes only: the same bits in every run.
// - The result passes through shared memory, so that it is written along the pixels, and bias,
//   residual and activation are applied on that way, once in the code.
#pragma once

#include "cuda/finishing.h"
#include "cuda/launch.h"
#include "cuda/products.h"
#include "cuda/tile_math.h"

namespace cnncore::cuda {

// Blocks in this order: rows of tiles fastest (neighbours share the windows they read), then
// columns, units, and parts of the sum.
struct TileGrid {
  index_t rows, columns, units, splits;

  CNNCORE_HD index_t blocks() const { return rows * columns * units * splits; }
};

// Slices [begin, end) of `slices` are those of part `part` of `parts`.
CNNCORE_HD int part_begin(int slices, index_t part, index_t parts) {
  return static_cast<int>(slices * part / parts);
}

template <class T_, class Math, int rows, int columns, int depth, bool a_along, bool b_along>
struct TileProduct {
  using T = T_;
  using Sum = typename Math::Sum;
  using LayoutA = TileLayout<T, rows, depth, a_along>;
  using LayoutB = TileLayout<T, columns, depth, b_along>;
  static constexpr int kThreads = Math::kThreads, kStages = 4;
  static constexpr int kRows = rows, kColumns = columns, kDepth = depth;
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kSumPitch = columns + 8;
  static constexpr std::size_t kStageBytes =
      static_cast<std::size_t>(LayoutA::kElements + LayoutB::kElements) * sizeof(T);
  static constexpr std::size_t kSumBytes = static_cast<std::size_t>(rows) * kSumPitch * sizeof(Sum);
  static_assert(kStageBytes % 16 == 0 && (LayoutA::kElements * sizeof(T)) % 16 == 0, "aligned");

  struct Shared {
    // the slices under way; after the last one, the sums
    alignas(16) unsigned char memory[kStageBytes * kStages > kSumBytes ? kStageBytes * kStages
                                                                       : kSumBytes];
    Site row_sites[rows], column_sites[columns];
    Site a_sites[2][depth], b_sites[2][depth];
    index_t targets[columns];
    Product product;

    CNNCORE_HD T* a_tile(int slice) {
      return reinterpret_cast<T*>(memory + static_cast<std::size_t>(slice % kStages) * kStageBytes);
    }
    CNNCORE_HD T* b_tile(int slice) { return a_tile(slice) + LayoutA::kElements; }
    CNNCORE_HD Sum* sums() { return reinterpret_cast<Sum*>(memory); }
  };

  ProductPlan plan;
  TileGrid grid;
  const T* a;
  const T* b;
  bool a_vector, b_vector;  // whether 16 bytes along the layout are neighbours in memory
  Finishing<T> finishing;
  T* target;
  Sum* partial;  // splits results laid out like the target, or null
  index_t target_size;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t tile = block.index % (grid.rows * grid.columns);
    const index_t rest = block.index / (grid.rows * grid.columns);
    const auto row0 = static_cast<std::uint32_t>(tile % grid.rows * rows);
    const auto column0 = static_cast<std::uint32_t>(tile / grid.rows * columns);
    const index_t split = rest / grid.units;

    block.each_thread([&](int t) {
      if (t == 0) shared.product = make_product(plan, rest % grid.units);
    });
    if (row0 >= shared.product.rows() || column0 >= shared.product.columns()) {
      block.each_thread([](int) {});  // nobody writes `shared` again before all have looked
      return;                         // phases differ in size
    }
    const int slices = static_cast<int>((shared.product.depth() + depth - 1) / depth);
    const int first = part_begin(slices, split, grid.splits);
    const int last = part_begin(slices, split + 1, grid.splits);

    typename Block::template PerThread<typename Math::Sums> sums;
    typename Block::template PerThread<Copies> copies;
    block.each_thread([&](int t) {
      sums[t] = typename Math::Sums{};
      for (int i = t; i < rows; i += kThreads)
        shared.row_sites[i] = shared.product.a.row.site(row0 + static_cast<std::uint32_t>(i));
      for (int i = t; i < columns; i += kThreads)
        shared.column_sites[i] = shared.product.b.row.site(column0 + static_cast<std::uint32_t>(i));
      fill_depth_sites(t, first, shared);
    });
    for (int slice = first; slice < first + kStages - 1; ++slice)
      block.each_thread([&](int t) {
        begin_copies(t, slice, last, shared, copies[t]);
        fill_depth_sites(t, slice + 1, shared);
        if (slice == first + kStages - 2) copies[t].template wait<kStages - 2>();
      });
    for (int slice = first; slice < last; ++slice)
      block.each_thread([&](int t) {
        begin_copies(t, slice + kStages - 1, last, shared, copies[t]);
        fill_depth_sites(t, slice + kStages, shared);
        Math::multiply_slice(t, shared.a_tile(slice), shared.b_tile(slice), sums[t]);
        copies[t].template wait<kStages - 2>();
      });

    block.each_thread([&](int t) {
      copies[t].template wait<0>();
      Math::each_sum(t, sums[t], [&](int row, int column, Sum value) {
        shared.sums()[row * kSumPitch + column] = value;
      });
      for (int i = t; i < columns; i += kThreads)
        shared.targets[i] =
            shared.product.column.site(column0 + static_cast<std::uint32_t>(i)).offset;
    });
    block.each_thread([&](int t) { write(t, row0, column0, split, shared); });
  }

  // The sites along the sum of one slice: half of the threads for each factor.
  CNNCORE_HD void fill_depth_sites(int t, int slice, Shared& shared) const {
    static_assert(2 * depth <= kThreads, "one site a thread");
    const auto k = static_cast<std::uint32_t>(slice * depth + t % depth);
    if (t < depth)
      shared.a_sites[slice & 1][t] = shared.product.a.depth.site(k);
    else if (t < 2 * depth)
      shared.b_sites[slice & 1][t - depth] = shared.product.b.depth.site(k);
  }

  CNNCORE_HD void begin_copies(int t, int slice, int last, Shared& shared, Copies& copies) const {
    if (slice < last) {
      copy_operand<rows, a_along>(t, shared.product.a, a, a_vector, shared.row_sites,
                                  shared.a_sites[slice & 1], shared.a_tile(slice), copies);
      copy_operand<columns, b_along>(t, shared.product.b, b, b_vector, shared.column_sites,
                                     shared.b_sites[slice & 1], shared.b_tile(slice), copies);
    }
    copies.commit();  // empty groups too: waiting counts them
  }

  template <int count, bool along>
  CNNCORE_HD static void copy_operand(int t, const Operand& operand, const T* from, bool vector,
                                      const Site* sites, const Site* depth_sites, T* tile,
                                      Copies& copies) {
    if (vector)
      copy_chunks<T, count, depth, along, kThreads, kVector>(t, operand, from, sites, depth_sites,
                                                             tile, copies);
    else
      copy_chunks<T, count, depth, along, kThreads, 1>(t, operand, from, sites, depth_sites, tile,
                                                       copies);
  }

  CNNCORE_HD void write(int t, std::uint32_t row0, std::uint32_t column0, index_t split,
                        Shared& shared) const {
    const Product& product = shared.product;
    for (int i = t; i < rows * columns; i += kThreads) {
      const std::uint32_t row = row0 + static_cast<std::uint32_t>(i / columns);
      if (row >= product.rows() || column0 + i % columns >= product.columns()) continue;
      const index_t offset = row * product.row_step + shared.targets[i % columns];
      const Sum value = shared.sums()[i / columns * kSumPitch + i % columns];
      if (partial != nullptr)
        partial[split * target_size + offset] = value;
      else
        target[offset] = finished(finishing, value, product.bias + row, offset);
    }
  }
};

// The parts of a split sum, added in order. Element i belongs to bias i / plane % channels.
template <class T>
struct FinishPartials {
  using Sum = typename Computing<T>::type;
  const Sum* partial;
  index_t splits, size, plane, channels;
  Finishing<T> finishing;
  T* target;

  CNNCORE_HD void operator()(index_t i) const {
    Sum sum = partial[i];
    for (index_t split = 1; split < splits; ++split) sum += partial[split * size + i];
    const index_t bias = finishing.bias != nullptr ? i / plane % channels : 0;
    target[i] = finished(finishing, sum, bias, i);
  }
};

}  // namespace cnncore::cuda
