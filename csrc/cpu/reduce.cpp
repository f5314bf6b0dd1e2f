#include "cpu/reduce.h"

#include <cstring>
#include <utility>

#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void sum_columns_loop(const T* x, index_t length,
                                                                      index_t inner,
                                                                      index_t columns, T* y))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T>
                             void max_columns_loop(const T* x, index_t length, index_t inner,
                                                   index_t columns, T* values, index_t* indices))

namespace {

constexpr index_t kColumns = 2048;    // columns of one task
constexpr index_t kEnoughTasks = 16;  // with fewer, the summed axis is cut as well
constexpr index_t kTaskWork = 65536;

// y[o, i] = Σ_l x[o, l, i]. How the work is cut depends on the shape alone, never on the threads.
template <class T>
void sum_middle(const T* x, index_t outer, index_t length, index_t inner, T* y) {
  const auto loop = CNNCORE_SELECT_ISA(sum_columns_loop<T>);
  const index_t tile = max_of(1, min_of(inner, kColumns)), tiles = ceil_div(inner, tile);
  const index_t cut =
      outer * tiles >= kEnoughTasks ? max_of(1, length) : max_of(256, kTaskWork / tile);
  const index_t pieces = max_of(1, ceil_div(length, cut));
  const Scratch<T> parts(pieces == 1 ? 0 : outer * pieces * inner);
  T* sums = pieces == 1 ? y : parts.data();
  parallel_for(outer * pieces * tiles, grain_for(min_of(cut, length) * tile),
               [&](index_t first, index_t last) {
                 for (index_t task = first; task < last; ++task) {
                   const index_t column = task % tiles * tile, row = task / tiles;
                   const index_t piece = row % pieces * cut, o = row / pieces;
                   loop(x + (o * length + piece) * inner + column, min_of(cut, length - piece),
                        inner, min_of(tile, inner - column), sums + row * inner + column);
                 }
               });
  if (pieces > 1) sum_middle(sums, outer, pieces, inner, y);
}

// Neighbouring axes that are both summed or both kept act as one.
std::vector<std::pair<index_t, bool>> merge_axes(const index_t* shape,
                                                 const std::vector<bool>& reduced) {
  std::vector<std::pair<index_t, bool>> merged;
  for (std::size_t axis = 0; axis < reduced.size(); ++axis) {
    if (shape[axis] == 1) continue;
    if (!merged.empty() && merged.back().second == reduced[axis])
      merged.back().first *= shape[axis];
    else
      merged.emplace_back(shape[axis], reduced[axis]);
  }
  return merged;
}

}  // namespace

// One group of axes after the other, the last first: the long pass runs over contiguous memory and
// every later one over what it left.
CNNCORE_KERNEL(reduce_sum);
template <class T>
void reduce_sum(ArrayView<const T> x, const std::vector<bool>& reduced, ArrayView<T> y) {
  if (y.size() == 0) return;
  if (x.size() == 0) {
    std::memset(y.data, 0, static_cast<std::size_t>(y.size()) * sizeof(T));
    return;
  }
  auto axes = merge_axes(x.shape, reduced);
  index_t groups = 0, outer = x.size(), inner = 1, left = x.size();
  for (const auto& [size, summed] : axes) {
    groups += summed;
    if (summed) left = x.size() / size;  // elements after the first step, over the last group
  }
  if (groups == 0) {
    std::memcpy(y.data, x.data, static_cast<std::size_t>(y.size()) * sizeof(T));
    return;
  }
  const Scratch<T> first(groups > 1 ? left : 0), second(groups > 2 ? left / 2 : 0);
  const T* from = x.data;
  for (; !axes.empty(); axes.pop_back()) {
    const auto [size, summed] = axes.back();
    outer /= size;
    if (!summed) {
      inner *= size;
      continue;
    }
    T* to = --groups == 0 ? y.data : from == first.data() ? second.data() : first.data();
    sum_middle(from, outer, size, inner, to);
    from = to;
  }
}

CNNCORE_KERNEL(reduce_max);
template <class T>
void reduce_max(const T* x, index_t outer, index_t length, index_t inner, T* values,
                index_t* indices) {
  const auto loop = CNNCORE_SELECT_ISA(max_columns_loop<T>);
  const index_t tile = max_of(1, min_of(inner, kColumns)), tiles = ceil_div(inner, tile);
  parallel_for(outer * tiles, grain_for(length * tile), [&](index_t first, index_t last) {
    for (index_t task = first; task < last; ++task) {
      const index_t column = task % tiles * tile, o = task / tiles;
      loop(x + o * length * inner + column, length, inner, min_of(tile, inner - column),
           values + o * inner + column, indices + o * inner + column);
    }
  });
}

#define CNNCORE_INSTANTIATE(T)                                                          \
  template void reduce_sum(ArrayView<const T>, const std::vector<bool>&, ArrayView<T>); \
  template void reduce_max(const T*, index_t, index_t, index_t, T*, index_t*);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
