#include "cpu/gather.h"

#include <cstring>

#include "cnncore/check.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/regions.h"

namespace cnncore {
namespace {

// Address steps of an index of shape (O or 1, J, I or 1).
struct IndexSteps {
  IndexSteps(const ArrayView<const std::int64_t>& index)
      : outer(index[0] == 1 ? 0 : index[1] * index[2]),
        row(index[2]),
        inner(index[2] == 1 ? 0 : 1) {}
  index_t outer, row, inner;
};

[[noreturn]] void refuse(const char* name, std::int64_t index, index_t size, bool skips) {
  throw ArgumentError(
      name, std::string("indices in ") + (skips ? "-1" : "0") + " .. " + std::to_string(size - 1),
      std::to_string(index), "indices of the axis they select from");
}

// Whether an index names an element. Each is looked at before it addresses memory; -1 means
// "nothing" where that `skips`. Read as an unsigned number, a negative one is too large: one
// comparison in the loops.
inline bool names(std::int64_t index, index_t size, const char* name = "index", bool skips = true) {
  if (static_cast<std::uint64_t>(index) < static_cast<std::uint64_t>(size)) return true;
  if (index != -1 || !skips) refuse(name, index, size, skips);
  return false;
}

// One value per index: the planes of max pooling and its switches.
template <class T>
void gather_values(const T* from, const std::int64_t* chosen, index_t count, index_t size, T* to,
                   const char* name) {
  for (index_t i = 0; i < count; ++i) to[i] = names(chosen[i], size, name) ? from[chosen[i]] : T(0);
}

template <class T>
void scatter_values(const T* from, const std::int64_t* chosen, index_t count, index_t size, T* to,
                    const char* name, bool skips = true) {
  for (index_t i = 0; i < count; ++i)
    if (names(chosen[i], size, name, skips)) to[chosen[i]] += from[i];
}

}  // namespace

CNNCORE_KERNEL(gather);
template <class T>
void gather(ArrayView<const T> x, ArrayView<const std::int64_t> index, ArrayView<T> y) {
  const index_t size = x[1], rows = y[1], inner = y[2];
  const IndexSteps steps(index);
  if (inner == 1) {
    parallel_for(y[0] * rows, grain_for(1), [&](index_t first, index_t last) {
      for (index_t begin = first; begin < last;) {
        const index_t o = begin / rows, j = begin % rows, count = min_of(last - begin, rows - j);
        gather_values(x.data + o * size, index.data + o * steps.outer + j, count, size,
                      y.data + begin, "index");
        begin += count;
      }
    });
    return;
  }
  parallel_for(y[0] * rows, grain_for(inner), [&](index_t first, index_t last) {
    index_t o = first / rows, j = first % rows;
    for (index_t task = first; task < last; ++task, ++j) {
      if (j == rows) j = 0, ++o;
      const T* from = x.data + o * size * inner;
      const std::int64_t* chosen = index.data + o * steps.outer + j * steps.row;
      T* to = y.data + task * inner;
      if (steps.inner == 0) {
        if (names(*chosen, size))
          std::memcpy(to, from + *chosen * inner, static_cast<std::size_t>(inner) * sizeof(T));
        else
          std::memset(to, 0, static_cast<std::size_t>(inner) * sizeof(T));
      } else {
        for (index_t i = 0; i < inner; ++i)
          to[i] = names(chosen[i], size) ? from[chosen[i] * inner + i] : T(0);
      }
    }
  });
}

// Work is split over outputs: a task owns some columns of one outer slice and adds in the order of
// j, so the result cannot depend on the threads.
CNNCORE_KERNEL(scatter_add);
template <class T>
void scatter_add(ArrayView<const T> src, ArrayView<const std::int64_t> index, bool skips,
                 ArrayView<T> y) {
  const index_t size = y[1], rows = src[1], inner = y[2];
  const IndexSteps steps(index);
  constexpr index_t kColumns = 1024;
  const index_t tile = max_of(1, min_of(inner, kColumns)), tiles = ceil_div(inner, tile);
  parallel_for(y[0] * tiles, grain_for((rows + size) * tile), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      const index_t o = task / tiles, begin = task % tiles * tile;
      const index_t columns = min_of(tile, inner - begin);
      T* to = y.data + o * size * inner + begin;
      if (columns == inner)
        std::memset(to, 0, static_cast<std::size_t>(size * inner) * sizeof(T));
      else
        for (index_t a = 0; a < size; ++a)
          std::memset(to + a * inner, 0, static_cast<std::size_t>(columns) * sizeof(T));
      if (inner == 1) {
        scatter_values(src.data + o * rows, index.data + o * steps.outer, rows, size, to, "index",
                       skips);
        continue;
      }
      for (index_t j = 0; j < rows; ++j) {
        const T* from = src.data + (o * rows + j) * inner + begin;
        const std::int64_t* chosen = index.data + o * steps.outer + j * steps.row;
        if (steps.inner == 0) {
          if (!names(*chosen, size, "index", skips)) continue;
          T* line = to + *chosen * inner;
          for (index_t i = 0; i < columns; ++i) line[i] += from[i];
        } else {
          for (index_t i = 0; i < columns; ++i)
            if (names(chosen[begin + i], size, "index", skips))
              to[chosen[begin + i] * inner + i] += from[i];
        }
      }
    }
  });
}

CNNCORE_KERNEL(region_gather);
template <class T>
void region_gather(ArrayView<const T> x, ArrayView<const std::int64_t> image,
                   ArrayView<const std::int64_t> switches, ArrayView<T> y) {
  const index_t channels = y[1], bins = y[2] * y[3], plane = x[2] * x[3];
  parallel_for(y[0] * channels, grain_for(bins), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      const index_t source = image.data[task / channels] * channels + task % channels;
      gather_values(x.data + source * plane, switches.data + task * bins, bins, plane,
                    y.data + task * bins, "switches");
    }
  });
}

// A task owns a plane of the result and adds the regions of its image in their order.
CNNCORE_KERNEL(region_scatter);
template <class T>
void region_scatter(ArrayView<const T> gy, ArrayView<const std::int64_t> image,
                    ArrayView<const std::int64_t> switches, ArrayView<T> gx) {
  const index_t channels = gx[1], bins = gy[2] * gy[3], plane = gx[2] * gx[3];
  const RegionLists regions(image, gy[0], gx[0]);
  const index_t work = plane / 8 + bins * gy[0] / max_of(1, gx[0]);
  parallel_for(gx[0] * channels, grain_for(work), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      T* to = gx.data + task * plane;
      std::memset(to, 0, static_cast<std::size_t>(plane) * sizeof(T));
      regions.each(task / channels, [&](index_t r) {
        const index_t at = (r * channels + task % channels) * bins;
        scatter_values(gy.data + at, switches.data + at, bins, plane, to, "switches");
      });
    }
  });
}

#define CNNCORE_INSTANTIATE(T)                                                           \
  template void region_gather(ArrayView<const T>, ArrayView<const std::int64_t>,         \
                              ArrayView<const std::int64_t>, ArrayView<T>);              \
  template void region_scatter(ArrayView<const T>, ArrayView<const std::int64_t>,        \
                               ArrayView<const std::int64_t>, ArrayView<T>);             \
  template void gather(ArrayView<const T>, ArrayView<const std::int64_t>, ArrayView<T>); \
  template void scatter_add(ArrayView<const T>, ArrayView<const std::int64_t>, bool, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
