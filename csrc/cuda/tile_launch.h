// Which tiled kernel multiplies, into how many parts the sum is split, and the launch.
#pragma once

#include "cuda/capability.h"
#include "cuda/conv.h"

namespace cnncore::cuda {

// One product and everything that a launch of it needs.
template <class T>
struct TileCall {
  ProductPlan plan;
  const T* a;
  const T* b;
  // Along which axis neighbours lie in memory, and whether 16 bytes of them may be read at once.
  bool a_along = true, b_along = false;
  bool a_vector = false, b_vector = false;
  bool tensor = false;  // tensor cores: float32 as TF32
  Finishing<T> finishing{};
  T* target = nullptr;
  index_t target_size = 0, plane = 1, channels = 1;  // result i has bias i / plane % channels
  typename Computing<T>::type* part = nullptr;       // instead of the target: an unfinished sum
};

// Blocks that a large device can run at once, about; and slices that make a block worth starting.
constexpr index_t kBusyBlocks = 264, kFewestSlices = 8, kMostParts = 64;
constexpr index_t kPartialBytes = index_t{1} << 28;

template <class Kernel, class T>
void launch_tiles(const Queue& queue, const char* op, const TileCall<T>& call,
                  Workspace& workspace) {
  using Sum = typename Computing<T>::type;
  const ProductSize size = size_of(call.plan);
  Kernel kernel{};
  kernel.plan = call.plan;
  kernel.grid = {ceil_div(size.rows, Kernel::kRows), ceil_div(size.columns, Kernel::kColumns),
                 size.units, 1};
  const index_t slices = ceil_div(size.depth, Kernel::kDepth);
  index_t splits = 1;
  if (call.part == nullptr)
    splits = max_of(1, min_of(min_of(ceil_div(kBusyBlocks, max_of(1, kernel.grid.blocks())),
                                     slices / kFewestSlices),
                              min_of(kMostParts, kPartialBytes / static_cast<index_t>(sizeof(Sum)) /
                                                     max_of(1, call.target_size))));
  Sum* const partial = splits > 1 ? workspace.take<Sum>(splits * call.target_size) : call.part;
  if (workspace.measuring()) return;
  kernel.grid.splits = splits;
  kernel.a = call.a;
  kernel.b = call.b;
  kernel.a_vector = call.a_vector;
  kernel.b_vector = call.b_vector;
  kernel.finishing = call.finishing;
  kernel.target = call.target;
  kernel.partial = partial;
  kernel.target_size = call.target_size;
  for_each_block(queue, op, kernel.grid.blocks(), kernel);
  if (splits > 1)
    for_each_element(queue, op, call.target_size,
                     FinishPartials<T>{partial, splits, call.target_size, call.plane, call.channels,
                                       call.finishing, call.target});
}

template <class T, bool tensor, int rows, int columns, bool a_along, bool b_along>
struct ChooseTile {
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));
  using Math = std::conditional_t<tensor, TensorMath<T, rows, columns, kDepth, a_along, b_along>,
                                  PlainMath<T, rows, columns, kDepth, a_along, b_along>>;
  using Kernel = TileProduct<T, Math, rows, columns, kDepth, a_along, b_along>;
};

// A tile much larger than the matrix would multiply mostly zeros.
template <class T, bool tensor, bool a_along, bool b_along>
void launch_shape(const Queue& queue, const char* op, const TileCall<T>& call,
                  Workspace& workspace) {
  const ProductSize size = size_of(call.plan);
  const auto fits = static_cast<std::size_t>(capability(queue).shared);
  using Small = typename ChooseTile<T, tensor, 64, 64, a_along, b_along>::Kernel;
  if constexpr (!std::is_same_v<T, double>) {
    using Large = typename ChooseTile<T, tensor, 128, 128, a_along, b_along>::Kernel;
    if (size.rows > 64 && size.columns > 64 && sizeof(typename Large::Shared) <= fits)
      return launch_tiles<Large>(queue, op, call, workspace);
  }
  if constexpr (tensor) {
    using Wide = typename ChooseTile<T, tensor, 64, 128, a_along, b_along>::Kernel;
    if (size.columns > 64 && sizeof(typename Wide::Shared) <= fits)
      return launch_tiles<Wide>(queue, op, call, workspace);
  }
  launch_tiles<Small>(queue, op, call, workspace);
}

template <class T, bool tensor>
void launch_layout(const Queue& queue, const char* op, const TileCall<T>& call,
                   Workspace& workspace) {
  if constexpr (sizeof(T) == 2)
    if (!call.a_along) return launch_shape<T, tensor, false, false>(queue, op, call, workspace);
  if (call.b_along)
    launch_shape<T, tensor, true, true>(queue, op, call, workspace);
  else
    launch_shape<T, tensor, true, false>(queue, op, call, workspace);
}

template <class T>
void multiply_tiles(const Queue& queue, const char* op, const TileCall<T>& call,
                    Workspace& workspace) {
  if constexpr (sizeof(T) == 2)
    launch_layout<T, true>(queue, op, call, workspace);
  else if constexpr (std::is_same_v<T, double>)
    launch_layout<T, false>(queue, op, call, workspace);
  else if (call.tensor)
    launch_layout<T, true>(queue, op, call, workspace);
  else
    launch_layout<T, false>(queue, op, call, workspace);
}

}  // namespace cnncore::cuda
