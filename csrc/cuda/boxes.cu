// Compiled without fused multiply-adds: an overlap is compared with a threshold, so every backend
// must round it in the same way.
#include "cnncore/boxes.h"
#include "cnncore/divide.h"
#include "cuda/boxes.h"
#include "cuda/launch.h"

namespace cnncore::cuda {
namespace {

template <class T>
struct Box {
  T x1, y1, x2, y2, area;

  CNNCORE_HD static Box at(const T* boxes, index_t i) {
    const T* b = boxes + 4 * i;
    return {b[0], b[1], b[2], b[3], box_area(b[0], b[1], b[2], b[3])};
  }
  CNNCORE_HD T overlap(const Box& o) const {
    return box_overlap(x1, y1, x2, y2, area, o.x1, o.y1, o.x2, o.y2, o.area);
  }
};

template <class T>
struct Overlaps {
  const T *a, *b;
  T* y;
  IndexDivider cols;

  template <class I>
  CNNCORE_HD void operator()(I at) const {
    const I row = cols.quotient(at), col = cols.remainder(at);
    y[at] = Box<T>::at(a, row).overlap(Box<T>::at(b, col));
  }
};

// A tile of the table of overlaps: bit j of word (i, w) says that box i suppresses box 64 w + j.
template <class T>
struct OverlapTile {
  static constexpr int kThreads = kNmsTile;
  struct Shared {
    Box<T> column[kThreads];
  };
  const T* boxes;
  index_t count, words, first_tile;
  T threshold;
  std::uint64_t* overlaps;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t tile = first_tile + block.index / words, word = block.index % words;
    if (word < tile) return;  // a box suppresses only later ones
    block.each_thread([&](int t) {
      const index_t j = word * kNmsTile + t;
      if (j < count) shared.column[t] = Box<T>::at(boxes, j);
    });
    block.each_thread([&](int t) {
      const index_t i = tile * kNmsTile + t;
      if (i >= count) return;
      const Box<T> mine = Box<T>::at(boxes, i);
      const index_t first = word * kNmsTile, there = min_of(kNmsTile, count - first);
      std::uint64_t bits = 0;
      for (index_t j = 0; j < there; ++j)
        if (first + j > i && mine.overlap(shared.column[j]) > threshold)
          bits |= std::uint64_t{1} << j;
      overlaps[(i - first_tile * kNmsTile) * words + word] = bits;
    });
  }
};

CNNCORE_HD int lowest_bit(std::uint64_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffsll(static_cast<long long>(bits)) - 1;
#else
  return __builtin_ctzll(bits);
#endif
}

// One block goes through the strip tile by tile: who of the tile stays, then whom these suppress.
struct Scan {
  static constexpr int kThreads = 256;
  static constexpr int kBatch = 8;  // rows read before any is used, to hide the latency
  struct Shared {
    std::uint64_t own[kNmsTile], keep;
  };
  index_t count, words, first_tile, last_tile;
  const std::uint64_t* overlaps;
  std::uint64_t* gone;
  std::uint8_t* kept;

  CNNCORE_HD std::uint64_t word(index_t tile, index_t row, index_t w) const {
    return overlaps[((tile - first_tile) * kNmsTile + row) * words + w];
  }

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    for (index_t tile = first_tile; tile < last_tile; ++tile) {
      const index_t there = min_of(kNmsTile, count - tile * kNmsTile);
      block.each_thread([&](int t) {
        if (t < there) shared.own[t] = word(tile, t, tile);
      });
      block.each_thread([&](int t) {
        if (t != 0) return;
        std::uint64_t waiting = ~gone[tile], keep = 0;
        if (there < kNmsTile) waiting &= (std::uint64_t{1} << there) - 1;
        while (waiting != 0) {
          const int best = lowest_bit(waiting);
          const std::uint64_t bit = std::uint64_t{1} << best;
          keep |= bit;
          waiting &= ~(bit | shared.own[best]);
        }
        shared.keep = keep;
      });
      block.each_thread([&](int t) {
        const std::uint64_t keep = shared.keep;
        if (t < there) kept[tile * kNmsTile + t] = static_cast<std::uint8_t>(keep >> t & 1);
        for (index_t w = tile + 1 + t; w < words; w += kThreads) {
          std::uint64_t suppressed = gone[w];
          for (int row = 0; row < kNmsTile; row += kBatch) {
            std::uint64_t read[kBatch];
            for (int k = 0; k < kBatch; ++k)
              read[k] = keep >> (row + k) & 1 ? word(tile, row + k, w) : 0;
            for (int k = 0; k < kBatch; ++k) suppressed |= read[k];
          }
          gone[w] = suppressed;
        }
      });
    }
  }
};

}  // namespace

template <class T>
void box_iou(const Queue& queue, ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y) {
  for_each_index(queue, "box_iou", y.size(), 4 * max_of(a[0], b[0]),
                 Overlaps<T>{a.data, b.data, y.data, IndexDivider(max_of(b[0], 1))});
}

template <class T>
void nms(const Queue& queue, ArrayView<const T> boxes, double iou_threshold,
         ArrayView<std::uint64_t> overlaps, ArrayView<std::uint64_t> gone,
         ArrayView<std::uint8_t> kept) {
  const index_t count = boxes[0], words = ceil_div(count, kNmsTile);
  constexpr index_t strip = kNmsStrip / kNmsTile;
  for (index_t first = 0; first < words; first += strip) {
    const index_t last = min_of(words, first + strip);
    for_each_block(queue, "nms", (last - first) * words,
                   OverlapTile<T>{boxes.data, count, words, first, static_cast<T>(iou_threshold),
                                  overlaps.data});
    for_each_block(queue, "nms", 1,
                   Scan{count, words, first, last, overlaps.data, gone.data, kept.data});
  }
}

#define CNNCORE_INSTANTIATE(T)                                                               \
  template void box_iou(const Queue&, ArrayView<const T>, ArrayView<const T>, ArrayView<T>); \
  template void nms(const Queue&, ArrayView<const T>, double, ArrayView<std::uint64_t>,      \
                    ArrayView<std::uint64_t>, ArrayView<std::uint8_t>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
