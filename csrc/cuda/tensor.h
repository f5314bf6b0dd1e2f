// The instructions of the tiled kernels: copies into shared memory that run beside the arithmetic,
// fragments, and matrix products of a warp. Each is stated twice: as the instruction, and, for the
// host, as its definition. So the tests execute the addresses that every lane computes, the layouts
// of the fragments and the order of the copies; only the instructions themselves they take on
// trust.
//
// On the host a lane cannot see what its neighbours hold, so it works out their values too:
// a WarpValues has those of all 32.
#pragma once

#include <cstring>
#include <vector>

#include "cuda/narrow.h"

namespace cnncore::cuda {

#if defined(__CUDACC__)
  #define CNNCORE_UNROLL _Pragma("unroll")
constexpr int kLanesHeld = 1;
#else
  #define CNNCORE_UNROLL
constexpr int kLanesHeld = 32;
#endif

// --- copies into shared memory -------------------------------------------------------------------

// Copies are collected in groups; wait<n>() returns when at most n groups of this thread are still
// under way. From sm_80 on they do not pass through registers; before, copy() does it at once. What
// is not `valid` is written as zero and not read.
struct Copies {
  template <int bytes>
  CNNCORE_HD void copy(void* to, const void* from, bool valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    const int read = valid ? bytes : 0;
    if constexpr (bytes == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                   "r"(read));
    else if constexpr (bytes == 8)
      asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address), "l"(from),
                   "r"(read));
    else if constexpr (bytes == 4)
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from),
                   "r"(read));
    else
      direct<bytes>(to, from, valid);
#elif defined(__CUDACC__)
    direct<bytes>(to, from, valid);
#else
    Pending pending{to, {}, bytes, open_};
    if (valid) std::memcpy(pending.value, from, bytes);
    pending_.push_back(pending);
#endif
  }

  CNNCORE_HD void commit() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDACC__)
    ++open_;
#endif
  }

  template <int groups>
  CNNCORE_HD void wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#elif !defined(__CUDACC__)
    std::size_t done = 0;
    for (; done < pending_.size() && pending_[done].group < open_ - groups; ++done)
      std::memcpy(pending_[done].to, pending_[done].value,
                  static_cast<std::size_t>(pending_[done].bytes));
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(done));
#endif
  }

#if defined(__CUDACC__)
 private:
  template <int bytes>
  CNNCORE_HD static void direct(void* to, const void* from, bool valid) {
    if constexpr (bytes == 16)
      *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
    else if constexpr (bytes == 8)
      *static_cast<uint2*>(to) = valid ? *static_cast<const uint2*>(from) : uint2{0, 0};
    else if constexpr (bytes == 4)
      *static_cast<unsigned*>(to) = valid ? *static_cast<const unsigned*>(from) : 0u;
    else
      *static_cast<unsigned short*>(to) =
          valid ? *static_cast<const unsigned short*>(from) : static_cast<unsigned short>(0);
  }
#else
 private:
  // Nothing lands before it is waited for: a wait too few shows as garbage.
  struct Pending {
    void* to;
    unsigned char value[16];
    int bytes;
    int group;
  };
  std::vector<Pending> pending_;
  int open_ = 0;
#endif
};

// --- fragments -----------------------------------------------------------------------------------

template <class Value>
struct WarpValues {
  Value of[kLanesHeld];

  // value(lane) of this lane, or of all.
  template <class Function>
  CNNCORE_HD void load(int lane, const Function& value) {
#if defined(__CUDACC__)
    of[0] = value(lane);
#else
    (void)lane;
    for (int l = 0; l < 32; ++l) of[l] = value(l);
#endif
  }
};

template <int words>
struct Words {
  std::uint32_t word[words];
};

// Four 8 x 8 matrices of 16-bit elements, or 8 x 4 of words: row i of matrix j begins at
// address(8 j + i), 16 bytes long. Lane 4 i + t receives elements 2 t and 2 t + 1 of row i or,
// `transposed`, of column i. Rows of one matrix must lie in different banks.
template <bool transposed, class Address>
CNNCORE_HD Words<4> load_matrices(int lane, const Address& address) {
  Words<4> out;
#if defined(__CUDA_ARCH__)
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(address(lane)));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
                 : "r"(at));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
                 : "r"(at));
#else
  const int i = lane / 4, t = lane % 4;
  for (int j = 0; j < 4; ++j) {
    const auto half = [&](int row, int column) {
      std::uint16_t value;
      memcpy(&value, reinterpret_cast<const unsigned char*>(address(8 * j + row)) + 2 * column, 2);
      return static_cast<std::uint32_t>(value);
    };
    out.word[j] = transposed ? half(2 * t, i) | half(2 * t + 1, i) << 16
                             : half(i, 2 * t) | half(i, 2 * t + 1) << 16;
  }
#endif
  return out;
}

// The nearest number with 10 fraction bits, ties away from zero: what the tensor cores read of a
// float (they would drop the low bits).
CNNCORE_HD std::uint32_t tf32_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#else
  const bool finite = (bits & 0x7F800000u) != 0x7F800000u;
  return finite ? (bits + 0x1000u) & 0xFFFFE000u : bits;
#endif
}

// --- the product ---------------------------------------------------------------------------------

// Words of one product: A 16 rows x 8 words, B 8 words x 8 columns; a word is one float (rounded by
// tf32_of) or two neighbours along the sum. Lane 4 g + t holds
//   A: word[i] = (row g + 8 (i % 2), word t + 4 (i / 2)),   B: word[i] = (word t + 4 i, column g)
//   C: c[i] = (row g + 8 (i / 2), column 2 t + i % 2)
// (PTX, fragments of mma.m16n8k8 .tf32 and mma.m16n8k16 .f16 and .bf16).
using FragmentA = Words<4>;
using FragmentB = Words<2>;

#if !defined(__CUDACC__)
template <class T>
inline float word_product(std::uint32_t a, std::uint32_t b) {
  if constexpr (sizeof(T) == 4)
    return detail::float_from_bits(a) * detail::float_from_bits(b);
  else
    return widen(T{static_cast<std::uint16_t>(a)}) * widen(T{static_cast<std::uint16_t>(b)}) +
           widen(T{static_cast<std::uint16_t>(a >> 16)}) *
               widen(T{static_cast<std::uint16_t>(b >> 16)});
}
#endif

#if defined(__CUDA_ARCH__)
// mma.sync of `type`, accumulating in c.
  #define CNNCORE_MMA_4_2(shape, type)                                                             \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type                           \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                  \
                 : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), \
                   "r"(b.word[1]))
#endif

// c += A B. T: float (as TF32), Half, BFloat16.
template <class T>
CNNCORE_HD void multiply(int lane, const WarpValues<FragmentA>& as, const WarpValues<FragmentB>& bs,
                         float (&c)[4]) {
#if defined(__CUDA_ARCH__)
  (void)lane;
  const FragmentA& a = as.of[0];
  const FragmentB& b = bs.of[0];
  #if __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 4)
    CNNCORE_MMA_4_2("m16n8k8", "tf32");
  else if constexpr (std::is_same_v<T, Half>)
    CNNCORE_MMA_4_2("m16n8k16", "f16");
  else
    CNNCORE_MMA_4_2("m16n8k16", "bf16");
  #else
  if constexpr (std::is_same_v<T, Half>) {  // two products of 8 along the sum
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(b.word[0]));
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[1]));
  } else {
    __trap();  // the launcher refuses what an architecture has not
  }
  #endif
#elif !defined(__CUDACC__)
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
    for (int word = 0; word < 8; ++word) {
      const std::uint32_t a = as.of[4 * (row % 8) + word % 4].word[row / 8 + 2 * (word / 4)];
      const std::uint32_t b = bs.of[4 * column + word % 4].word[word / 4];
      c[i] += word_product<T>(a, b);
    }
  }
#endif
}

}  // namespace cnncore::cuda
