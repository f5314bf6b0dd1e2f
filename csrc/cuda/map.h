// Functions of one position: (y[i], z[i], …) = f(y[i], z[i], …, a[i], b[i], …), 16 bytes at a time.
#pragma once

#include "cuda/launch.h"

namespace cnncore::cuda {

template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T value[width];
};

// Arrays 0..outputs-1 are written; those from `first_read` on are read before. f changes the values
// of one position in place: f(T (&values)[arrays]).
template <class F, class T, int arrays, int outputs, int first_read, int width>
struct Mapping {
  F f;
  T* data[arrays];
  index_t count;

  // Position i is that of a pack.
  CNNCORE_HD void operator()(index_t i) const {
    const index_t begin = i * width;
    if (begin + width > count) {
      for (index_t k = begin; k < count; ++k) single(k);
      return;
    }
    Pack<T, width> packs[arrays];
    for (int k = first_read; k < arrays; ++k)
      packs[k] = *reinterpret_cast<const Pack<T, width>*>(data[k] + begin);
    for (int lane = 0; lane < width; ++lane) {
      T values[arrays] = {};
      for (int k = first_read; k < arrays; ++k) values[k] = packs[k].value[lane];
      f(values);
      for (int k = 0; k < outputs; ++k) packs[k].value[lane] = values[k];
    }
    for (int k = 0; k < outputs; ++k)
      *reinterpret_cast<Pack<T, width>*>(data[k] + begin) = packs[k];
  }

  CNNCORE_HD void single(index_t i) const {
    T values[arrays] = {};
    for (int k = first_read; k < arrays; ++k) values[k] = data[k][i];
    f(values);
    for (int k = 0; k < outputs; ++k) data[k][i] = values[k];
  }
};

// map_elements<outputs, first_read>(queue, "op", count, f, {y, x})
template <int outputs, int first_read, class F, class T, int arrays>
void map_elements(const Queue& queue, const char* op, index_t count, const F& f,
                  T* const (&data)[arrays]) {
  constexpr int width = 16 / static_cast<int>(sizeof(T));
  bool aligned = true;
  for (const T* pointer : data)
    aligned = aligned && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  const auto run = [&](auto mapping, int lanes) {
    for (int k = 0; k < arrays; ++k) mapping.data[k] = data[k];
    for_each_element(queue, op, ceil_div(count, lanes), mapping);
  };
  if (aligned)
    run(Mapping<F, T, arrays, outputs, first_read, width>{f, {}, count}, width);
  else
    run(Mapping<F, T, arrays, outputs, first_read, 1>{f, {}, count}, 1);
}

}  // namespace cnncore::cuda
