// How device code is written here, and the only file that launches anything.
//
// A kernel is a functor (a struct of pointers and sizes with a const operator()), run in one of
// three ways:
//
//   for_each_element(queue, "op", count, f)           f(i) for each i < count, i an index_t
//   for_each_index(queue, "op", count, largest, f)    the same with i an int32_t where no index
//                                                     reaches kSmall: divisions are then cheap
//                                                     (f.operator() is a template of the index)
//   for_each_block(queue, "op", blocks, f)            f(block, shared) for each block of threads
//
// The same sources are compiled twice. nvcc makes `_cuda`: the functor is called by the thin
// __global__ functions below. The host compiler makes `_cuda_host`, a module for tests, in which
// the three are plain loops: so the arithmetic and the indices of every kernel are executed, under
// sanitizers too, where there is no GPU. Only this file and what states an instruction twice
// (tensor.h, narrow.h, capability.cu) may ask which of the two it is.
//
// A functor of blocks is a sequence of steps. Between two steps stands a barrier:
//
//   struct Example {
//     static constexpr int kThreads = 256;
//     struct Shared { float part[kThreads]; };
//     template <class Block>
//     CNNCORE_HD void operator()(const Block& block, Shared& shared) const {
//       typename Block::template PerThread<float> own;  // a register, kept from step to step
//       block.each_thread([&](int t) { own[t] = x[block.index * kThreads + t]; });
//       block.each_thread([&](int t) { shared.part[t] = own[t]; });
//       block.each_thread([&](int t) { y[...] = shared.part[kThreads - 1 - t]; });
//     }
//   };
//
// On the host a step is a loop over t, so within a step no thread may read what another writes.
// HostOrder::reversed runs the loops backwards: a result that changes betrays a missing barrier.
//
// Every launch is one-dimensional, limited to kMaxBlocks blocks (threads stride over the rest) and
// checked; memory comes from Python, nothing here allocates or waits.
#pragma once

#include <limits>
#include <memory>
#include <type_traits>

#include "cnncore/geometry.h"
#include "cuda/queue.h"

#if defined(__CUDACC__)
  #include <cuda_runtime.h>
#endif

namespace cnncore::cuda {

constexpr int kElementThreads = 256;
constexpr index_t kMaxBlocks = 2147483647;       // of the first grid dimension, the only one used
constexpr index_t kSmall = index_t{1} << 30;     // below, index + stride fit into 32 bits
constexpr std::size_t kPlainShared = 48 * 1024;  // bytes of shared memory that need no asking

template <class I, class F>
CNNCORE_HD void element_loop(const F& f, index_t first, index_t step, index_t count) {
  const I end = static_cast<I>(count), stride = static_cast<I>(step);
  for (I i = static_cast<I>(first); i < end; i += stride) f(i);
}

#if defined(__CUDACC__)

inline void check(cudaError_t status, const char* op) {
  if (status != cudaSuccess)
    throw DeviceFailure(op, static_cast<int>(status), cudaGetErrorString(status));
}

inline cudaStream_t enter(const Queue& queue, const char* op) {
  check(cudaSetDevice(queue.device), op);
  return reinterpret_cast<cudaStream_t>(queue.stream);
}

inline unsigned grid_of(index_t blocks) {
  return static_cast<unsigned>(min_of(blocks, kMaxBlocks));
}
inline bool indices_fit(index_t largest) {
  return largest < kSmall;
}

template <class I, class F>
__global__ void __launch_bounds__(kElementThreads) element_kernel(const F f, index_t count) {
  const index_t first = static_cast<index_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  element_loop<I>(f, first, static_cast<index_t>(gridDim.x) * kElementThreads, count);
}

template <class I, class F>
void run_elements(const Queue& queue, const char* op, index_t count, const F& f) {
  if (count == 0) return;
  const unsigned grid = grid_of(ceil_div(count, kElementThreads));
  element_kernel<I><<<grid, kElementThreads, 0, enter(queue, op)>>>(f, count);
  check(cudaGetLastError(), op);
}

// One thread of a block, as a functor of blocks sees it.
struct DeviceBlock {
  index_t index;

  template <class T>
  struct PerThread {
    T value;
    CNNCORE_HD T& operator[](int) { return value; }
  };

  template <class Step>
  CNNCORE_HD void each_thread(const Step& step) const {
  #if defined(__CUDA_ARCH__)
    step(static_cast<int>(threadIdx.x));
    __syncthreads();
  #endif
  }
};

template <class F>
__global__ void __launch_bounds__(F::kThreads) block_kernel(const F f, index_t blocks) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<typename F::Shared*>(memory);
  for (index_t b = blockIdx.x; b < blocks; b += gridDim.x) f(DeviceBlock{b}, shared);
}

template <class F>
void for_each_block(const Queue& queue, const char* op, index_t blocks, const F& f) {
  if (blocks == 0) return;
  const cudaStream_t stream = enter(queue, op);
  constexpr std::size_t bytes = sizeof(typename F::Shared);
  if (bytes > kPlainShared)
    check(cudaFuncSetAttribute(block_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          op);
  block_kernel<F><<<grid_of(blocks), F::kThreads, bytes, stream>>>(f, blocks);
  check(cudaGetLastError(), op);
}

#else  // the host plays the grid

inline index_t grid_of(index_t blocks) {
  const index_t most = host_order().max_blocks;
  return most > 0 ? min_of(blocks, most) : min_of(blocks, kMaxBlocks);
}
inline bool indices_fit(index_t largest) {
  return largest < kSmall && !host_order().wide;
}

// fn(i) for 0 <= i < count, in the order the tests ask for.
template <class Function>
void in_order(index_t count, Function&& fn) {
  const bool reversed = host_order().reversed;
  for (index_t i = 0; i < count; ++i) fn(reversed ? count - 1 - i : i);
}

template <class I, class F>
void run_elements(const Queue&, const char*, index_t count, const F& f) {
  const index_t threads = grid_of(ceil_div(count, kElementThreads)) * kElementThreads;
  in_order(min_of(threads, count),
           [&](index_t first) { element_loop<I>(f, first, threads, count); });
}

template <int threads>
struct HostBlock {
  index_t index;

  template <class T>
  struct PerThread {
    std::unique_ptr<T[]> values{new T[threads]};
    T& operator[](int t) { return values[static_cast<std::size_t>(t)]; }
  };

  template <class Step>
  void each_thread(const Step& step) const {
    in_order(threads, [&](index_t t) { step(static_cast<int>(t)); });
  }
};

template <class F>
void for_each_block(const Queue&, const char*, index_t blocks, const F& f) {
  in_order(blocks, [&](index_t b) {
    const std::unique_ptr<typename F::Shared> shared(new typename F::Shared);  // not initialised
    f(HostBlock<F::kThreads>{b}, *shared);
  });
}

#endif

template <class F>
void for_each_element(const Queue& queue, const char* op, index_t count, const F& f) {
  run_elements<index_t>(queue, op, count, f);
}

template <class F>
void for_each_index(const Queue& queue, const char* op, index_t count, index_t largest,
                    const F& f) {
  if (indices_fit(max_of(count, largest)))
    run_elements<std::int32_t>(queue, op, count, f);
  else
    run_elements<index_t>(queue, op, count, f);
}

}  // namespace cnncore::cuda
