// Tiles in shared memory and what threads do with them: copying a slice in, multiplying it. The
// whole stands in tile_product.h.
#pragma once

#include <type_traits>

#include "cuda/sites.h"
#include "cuda/tensor.h"

namespace cnncore::cuda {

// --- tiles in shared memory ----------------------------------------------------------------------

template <class T, int rows, int depth, bool along_depth>
struct TileLayout {
  static constexpr int kSize = static_cast<int>(sizeof(T));
  static constexpr int kPitch =
      along_depth ? depth + 16 / kSize : rows + (kSize == 4 ? 32 : 16) / kSize;
  static constexpr int kElements = (along_depth ? rows : depth) * kPitch;

  CNNCORE_HD static int at(int row, int k) {
    return along_depth ? row * kPitch + k : k * kPitch + row;
  }
};

// Copies one slice of an operand: chunks of `width` elements that are neighbours in memory.
template <class T, int rows, int depth, bool along_depth, int threads, int width>
CNNCORE_HD void copy_chunks(int t, const Operand& operand, const T* from, const Site* row_sites,
                            const Site* depth_sites, T* tile, Copies& copies) {
  using Layout = TileLayout<T, rows, depth, along_depth>;
  constexpr int inner = (along_depth ? depth : rows) / width;
  constexpr int chunks = rows * depth / width;
  static_assert(threads % inner == 0 && chunks % threads == 0, "whole rounds of copies");
  const int at = t % inner * width;
  const Site fixed = along_depth ? depth_sites[at] : row_sites[at];
  CNNCORE_UNROLL
  for (int i = 0; i < chunks / threads; ++i) {
    const int across = t / inner + i * (threads / inner);
    const Site other = along_depth ? row_sites[across] : depth_sites[across];
    const index_t offset = operand.find(fixed, other);
    T* const to = tile + (along_depth ? Layout::at(across, at) : Layout::at(at, across));
    copies.template copy<width* static_cast<int>(sizeof(T))>(to, from + (offset < 0 ? 0 : offset),
                                                             offset >= 0);
  }
}

// --- multiplying a slice -------------------------------------------------------------------------

// Tensor cores. T is what is stored; a float is read as TF32.
template <class T, int rows, int columns, int depth, bool a_along, bool b_along>
struct TensorMath {
  static constexpr int kThreads = 128, kWarpsAcross = 2;
  static constexpr int kWarpRows = rows / 2, kWarpColumns = columns / kWarpsAcross;
  static constexpr int kM = kWarpRows / 16, kN = kWarpColumns / 8;
  static constexpr int kWord = 4 / static_cast<int>(sizeof(T));  // elements of a word
  using Sum = float;
  using LayoutA = TileLayout<T, rows, depth, a_along>;
  using LayoutB = TileLayout<T, columns, depth, b_along>;
  static_assert(kM >= 1 && kN % 2 == 0 && depth % (8 * kWord) == 0, "whole fragments");

  struct Sums {
    float value[kM][kN][4];
  };

  // Rows row..row+15, words k..k+7 of the sum.
  CNNCORE_HD static FragmentA fragment_a(const T* tile, int row, int k, int lane) {
    FragmentA a;
    if constexpr (a_along) {
      a = load_matrices<false>(lane, [&](int l) {
        return tile + LayoutA::at(row + l % 8 + 8 * (l / 8 % 2), (k + 4 * (l / 16)) * kWord);
      });
    } else if constexpr (kWord == 2) {
      a = load_matrices<true>(lane, [&](int l) {
        return tile + LayoutA::at(row + 8 * (l / 8 % 2), k * kWord + l % 8 + 8 * (l / 16));
      });
    } else {
      for (int i = 0; i < 4; ++i)
        a.word[i] =
            word_at(tile + LayoutA::at(row + lane / 4 + 8 * (i % 2), k + lane % 4 + i / 2 * 4));
    }
    if constexpr (kWord == 1)
      for (std::uint32_t& word : a.word) word = tf32_of(word);
    return a;
  }

  // Words k..k+7 of the sum, columns column..column+15: word[0] and word[1] are the fragment of the
  // first eight, word[2] and word[3] that of the others.
  CNNCORE_HD static Words<4> fragments_b(const T* tile, int column, int k, int lane) {
    Words<4> b;
    if constexpr (b_along) {
      b = load_matrices<false>(lane, [&](int l) {
        return tile + LayoutB::at(column + l % 8 + 8 * (l / 16), (k + 4 * (l / 8 % 2)) * kWord);
      });
    } else if constexpr (kWord == 2) {
      b = load_matrices<true>(lane, [&](int l) {
        return tile + LayoutB::at(column + 8 * (l / 16), k * kWord + l % 8 + 8 * (l / 8 % 2));
      });
    } else {
      for (int i = 0; i < 4; ++i)
        b.word[i] =
            word_at(tile + LayoutB::at(column + lane / 4 + i / 2 * 8, k + lane % 4 + i % 2 * 4));
    }
    if constexpr (kWord == 1)
      for (std::uint32_t& word : b.word) word = tf32_of(word);
    return b;
  }

  CNNCORE_HD static std::uint32_t word_at(const T* element) {
    return *reinterpret_cast<const std::uint32_t*>(element);
  }

  CNNCORE_HD static void multiply_slice(int t, const T* a_tile, const T* b_tile, Sums& sums) {
    const int lane = t % 32, warp = t / 32;
    const int row = warp / kWarpsAcross * kWarpRows, column = warp % kWarpsAcross * kWarpColumns;
    CNNCORE_UNROLL
    for (int k = 0; k < depth / kWord; k += 8) {
      WarpValues<FragmentA> a[kM];
      WarpValues<FragmentB> b[kN];
      CNNCORE_UNROLL
      for (int i = 0; i < kM; ++i)
        a[i].load(lane, [&](int l) { return fragment_a(a_tile, row + 16 * i, k, l); });
      CNNCORE_UNROLL
      for (int j = 0; j < kN; j += 2) {
        WarpValues<Words<4>> pair;
        pair.load(lane, [&](int l) { return fragments_b(b_tile, column + 8 * j, k, l); });
        for (int l = 0; l < kLanesHeld; ++l) {
          b[j].of[l] = {{pair.of[l].word[0], pair.of[l].word[1]}};
          b[j + 1].of[l] = {{pair.of[l].word[2], pair.of[l].word[3]}};
        }
      }
      CNNCORE_UNROLL
      for (int i = 0; i < kM; ++i) CNNCORE_UNROLL
      for (int j = 0; j < kN; ++j) multiply<T>(lane, a[i], b[j], sums.value[i][j]);
    }
  }

  // f(row of the tile, column of the tile, sum) for every result of this thread.
  template <class Function>
  CNNCORE_HD static void each_sum(int t, const Sums& sums, const Function& f) {
    const int lane = t % 32, warp = t / 32;
    const int row = warp / kWarpsAcross * kWarpRows + lane / 4;
    const int column = warp % kWarpsAcross * kWarpColumns + 2 * (lane % 4);
    CNNCORE_UNROLL
    for (int i = 0; i < kM; ++i) CNNCORE_UNROLL
    for (int j = 0; j < kN; ++j) CNNCORE_UNROLL
    for (int k = 0; k < 4; ++k)
      f(row + 16 * i + k / 2 * 8, column + 8 * j + k % 2, sums.value[i][j][k]);
  }
};

// Ordinary multiply-adds in the element type.
template <class T, int rows, int columns, int depth, bool a_along, bool b_along>
struct PlainMath {
  static constexpr int kThreads = 256, kSide = 16;  // 16 x 16 threads
  static constexpr int kM = rows / kSide, kN = columns / kSide;
  static constexpr int kStep = 16 / static_cast<int>(sizeof(T));  // of the sum, one 16-byte read
  using Sum = T;
  using LayoutA = TileLayout<T, rows, depth, a_along>;
  using LayoutB = TileLayout<T, columns, depth, b_along>;

  struct Sums {
    T value[kM][kN];
  };

  struct alignas(16) Line {
    T value[kStep];
  };

  // Elements k..k+kStep-1 of one row.
  template <class Layout, bool along>
  CNNCORE_HD static Line line_of(const T* tile, int row, int k) {
    if constexpr (along) {
      return *reinterpret_cast<const Line*>(tile + Layout::at(row, k));
    } else {
      Line line;
      CNNCORE_UNROLL
      for (int s = 0; s < kStep; ++s) line.value[s] = tile[Layout::at(row, k + s)];
      return line;
    }
  }

  CNNCORE_HD static void multiply_slice(int t, const T* a_tile, const T* b_tile, Sums& sums) {
    const int column = t % kSide, row = t / kSide;
    CNNCORE_UNROLL
    for (int k = 0; k < depth; k += kStep) {
      Line a[kM];
      CNNCORE_UNROLL
      for (int i = 0; i < kM; ++i) a[i] = line_of<LayoutA, a_along>(a_tile, row + kSide * i, k);
      CNNCORE_UNROLL
      for (int j = 0; j < kN; ++j) {
        const Line b = line_of<LayoutB, b_along>(b_tile, column + kSide * j, k);
        CNNCORE_UNROLL
        for (int s = 0; s < kStep; ++s) CNNCORE_UNROLL
        for (int i = 0; i < kM; ++i) sums.value[i][j] += a[i].value[s] * b.value[s];
      }
    }
  }

  template <class Function>
  CNNCORE_HD static void each_sum(int t, const Sums& sums, const Function& f) {
    CNNCORE_UNROLL
    for (int i = 0; i < kM; ++i) CNNCORE_UNROLL
    for (int j = 0; j < kN; ++j) f(t / kSide + kSide * i, t % kSide + kSide * j, sums.value[i][j]);
  }
};

}  // namespace cnncore::cuda
