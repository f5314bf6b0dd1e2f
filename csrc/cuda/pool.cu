// One thread, one maximum or one gathered element. scatter_add owns what it writes: a thread a
// column, or, where a column would be alone on its memory, a warp a range of the column's places.
// Both add in the order of j, without atomics: the same bits in every run.
#include "cuda/launch.h"
#include "cuda/pool.h"
#include "cuda/split.h"
#include "cuda/windows.h"

namespace cnncore::cuda {
namespace {

// Coordinates are stepped through and compared: cheaper than dividing for the range that is inside.
template <class T>
struct MaxPool {
  const T* x;
  T* y;
  std::int64_t* winners;
  Window2d window;
  index_t height, width;
  Split oh, ow;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I plane = i;
    const I v = ow.take(plane), u = oh.take(plane);
    const T* const from = x + plane * height * width;
    const index_t h0 = window.h.start(u), w0 = window.w.start(v);
    T best{};
    index_t winner = -1;
    for (index_t kh = 0, h = h0; kh < window.h.kernel; ++kh, h += window.h.dilation) {
      if (h < 0 || h >= height) continue;
      const T* const row = from + h * width;
      for (index_t kw = 0, w = w0; kw < window.w.kernel; ++kw, w += window.w.dilation) {
        if (w < 0 || w >= width) continue;
        const T value = row[w];
        if (winner < 0 || (!(value <= best) && best == best)) {
          best = value;
          winner = h * width + w;
        }
      }
    }
    y[i] = best;
    winners[i] = winner;
  }
};

template <class T>
struct BinMax {
  const T* x;
  const std::int64_t* image;
  BinsView rows, cols;
  Split ph, pw, channels;
  index_t height, width;
  T* y;
  std::int64_t* winners;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I region = i;
    const I q = pw.take(region), p = ph.take(region), c = channels.take(region);
    const index_t row = rows.row(region, p), col = cols.row(region, q);
    T best{};
    std::int64_t winner = -1;
    rectangle_max(x + (image[region] * channels.size + c) * height * width, width, rows.start[row],
                  rows.end[row], cols.start[col], cols.end[col], best, winner);
    y[i] = best;
    winners[i] = winner;
  }
};

// Address steps of an index of shape (O or 1, J, I or 1).
struct IndexSteps {
  explicit IndexSteps(const ArrayView<const std::int64_t>& index)
      : outer(index[0] == 1 ? 0 : index[1] * index[2]),
        row(index[2]),
        inner(index[2] == 1 ? 0 : 1) {}
  index_t outer, row, inner;

  CNNCORE_HD index_t at(index_t o, index_t j, index_t i) const {
    return o * outer + j * row + i * inner;
  }
};

template <class T>
struct Gather {
  const T* x;
  const std::int64_t* index;
  IndexSteps steps;
  index_t size;
  Split rows, inner;
  T* y;

  template <class I>
  CNNCORE_HD void operator()(I k) const {
    I o = k;
    const I i = inner.take(o), j = rows.take(o);
    const index_t a = index[steps.at(o, j, i)];
    y[k] = a < 0 ? T{} : x[(o * size + a) * inner.size + i];
  }
};

// Thread (o, i): neighbours in i are neighbours in memory.
template <class T>
struct ScatterColumns {
  const T* src;
  const std::int64_t* index;
  IndexSteps steps;
  index_t size, rows, inner;
  T* y;

  CNNCORE_HD void operator()(index_t k) const {
    const index_t o = k / inner, i = k % inner;
    T* const to = y + o * size * inner + i;
    for (index_t a = 0; a < size; ++a) to[a * inner] = T{};
    for (index_t j = 0; j < rows; ++j) {
      const index_t a = index[steps.at(o, j, i)];
      if (a >= 0) to[a * inner] += src[(o * rows + j) * inner + i];
    }
  }
};

// Block (plane, part) of one warp owns places [begin, end) of a plane and reads all entries of the
// plane, one a thread, 32 at a time. Of the entries of one place, the first thread adds all.
// Entries lie in runs: one, or one for each region of the plane's image.
template <class T>
struct ScatterPlane {
  static constexpr int kThreads = 32;
  struct Shared {
    T value[kThreads];
    index_t place[kThreads];
  };

  const T* src;
  const std::int64_t* index;
  const std::int64_t* image;  // of each run; null where there is one run
  index_t index_step;         // from one plane's indices to the next, where there is one run
  index_t runs, length, channels, size, parts;
  T* y;

  template <class Block>
  CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
    const index_t plane = block.index / parts, part = block.index % parts;
    const index_t begin = size * part / parts, end = size * (part + 1) / parts;
    T* const to = y + plane * size;
    block.each_thread([&](int t) {
      for (index_t a = begin + t; a < end; a += kThreads) to[a] = T{};
    });
    for (index_t run = 0; run < runs; ++run) {
      if (image != nullptr && image[run] != plane / channels) continue;
      const index_t entries =
          (image != nullptr ? run * channels + plane % channels : plane) * length;
      add_run(block, shared, src + entries,
              index + (image != nullptr ? entries : plane * index_step), begin, end, to);
    }
  }

  template <class Block>
  CNNCORE_HD void add_run(const Block& block, Shared& shared, const T* from,
                          const std::int64_t* chosen, index_t begin, index_t end, T* to) const {
    for (index_t first = 0; first < length; first += kThreads) {
      block.each_thread([&](int t) {
        const index_t j = first + t;
        shared.place[t] = -1;
        if (j >= length) return;
        const index_t a = chosen[j];
        if (a < begin || a >= end) return;
        shared.place[t] = a;
        shared.value[t] = from[j];
      });
      block.each_thread([&](int t) {
        const index_t a = shared.place[t];
        if (a < 0) return;
        for (int earlier = 0; earlier < t; ++earlier)
          if (shared.place[earlier] == a) return;
        T sum = to[a];
        for (int later = t; later < kThreads; ++later)
          if (shared.place[later] == a) sum += shared.value[later];
        to[a] = sum;
      });
    }
  }
};

// y (R, C, PH, PW) of x (N, C, H, W).
template <class T>
struct RegionGather {
  const T* x;
  const std::int64_t* image;
  const std::int64_t* switches;
  index_t plane;
  Split bins, channels;
  T* y;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I region = bins.quotient(i);
    const I c = channels.take(region);
    const index_t a = switches[i];
    y[i] = a < 0 ? T{} : x[(image[region] * channels.size + c) * plane + a];
  }
};

// Enough warps to fill a large device, none with fewer places than a few rows of memory.
index_t scatter_parts(index_t outer, index_t size) {
  constexpr index_t kWarps = 2048, kPlaces = 256, kMost = 64;
  return max_of(1, min_of(kMost, min_of(ceil_div(kWarps, max_of(1, outer)), size / kPlaces)));
}

}  // namespace

template <class T>
void max_pool2d(const Queue& queue, ArrayView<const T> x, const Window2d& window, ArrayView<T> y,
                ArrayView<std::int64_t> winners) {
  for_each_index(queue, "max_pool2d", y.size(), y.size(),
                 MaxPool<T>{x.data, y.data, winners.data, window, x[2], x[3], y[2], y[3]});
}

template <class T>
void bin_max(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
             const BinsView& rows, const BinsView& cols, ArrayView<T> y,
             ArrayView<std::int64_t> winners) {
  for_each_index(queue, "bin_max", y.size(), y.size(),
                 BinMax<T>{x.data, image.data, rows, cols, rows.length, cols.length, x[1], x[2],
                           x[3], y.data, winners.data});
}

template <class T>
void gather(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> index,
            ArrayView<T> y) {
  for_each_index(queue, "gather", y.size(), y.size(),
                 Gather<T>{x.data, index.data, IndexSteps(index), x[1], y[1], y[2], y.data});
}

template <class T>
void scatter_add(const Queue& queue, ArrayView<const T> src, ArrayView<const std::int64_t> index,
                 ArrayView<T> y) {
  const IndexSteps steps(index);
  const index_t outer = y[0], size = y[1], inner = y[2], rows = src[1];
  if (inner > 1) {
    for_each_element(queue, "scatter_add", outer * inner,
                     ScatterColumns<T>{src.data, index.data, steps, size, rows, inner, y.data});
  } else if (inner == 1) {
    const index_t parts = scatter_parts(outer, size);
    for_each_block(queue, "scatter_add", outer * parts,
                   ScatterPlane<T>{src.data, index.data, nullptr, steps.outer, 1, rows, outer, size,
                                   parts, y.data});
  }
}

template <class T>
void region_gather(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
                   ArrayView<const std::int64_t> switches, ArrayView<T> y) {
  for_each_index(
      queue, "region_gather", y.size(), y.size(),
      RegionGather<T>{x.data, image.data, switches.data, x[2] * x[3], y[2] * y[3], x[1], y.data});
}

template <class T>
void region_scatter(const Queue& queue, ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                    ArrayView<const std::int64_t> switches, ArrayView<T> gx) {
  const index_t planes = gx[0] * gx[1], size = gx[2] * gx[3], parts = scatter_parts(planes, size);
  const index_t runs = gy[0], length = gy[2] * gy[3];
  if (runs == 0)  // where `image` may be null, which would mean one run
    for_each_element(queue, "region_scatter", gx.size(), Zeros<T>{gx.data});
  else
    for_each_block(queue, "region_scatter", planes * parts,
                   ScatterPlane<T>{gy.data, switches.data, image.data, 0, runs, length, gx[1], size,
                                   parts, gx.data});
}

#define CNNCORE_INSTANTIATE(T)                                                                    \
  template void max_pool2d(const Queue&, ArrayView<const T>, const Window2d&, ArrayView<T>,       \
                           ArrayView<std::int64_t>);                                              \
  template void bin_max(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,          \
                        const BinsView&, const BinsView&, ArrayView<T>, ArrayView<std::int64_t>); \
  template void gather(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,           \
                       ArrayView<T>);                                                             \
  template void scatter_add(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,      \
                            ArrayView<T>);                                                        \
  template void region_gather(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,    \
                              ArrayView<const std::int64_t>, ArrayView<T>);                       \
  template void region_scatter(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,   \
                               ArrayView<const std::int64_t>, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
