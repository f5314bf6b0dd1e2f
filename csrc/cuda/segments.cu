// One thread a run of equal targets: the first of the run adds all of it, the others do nothing.
#include "cuda/launch.h"
#include "cuda/segments.h"

namespace cnncore::cuda {
namespace {

template <class T>
struct AddSegments {
  const T* src;
  const std::int64_t *source, *target;
  T* y;
  index_t count;

  CNNCORE_HD void operator()(index_t i) const {
    const std::int64_t place = target[i];
    if (i > 0 && target[i - 1] == place) return;
    T sum = src[source[i]];
    for (index_t j = i + 1; j < count && target[j] == place; ++j) sum += src[source[j]];
    y[place] = sum;
  }
};

}  // namespace

template <class T>
void add_segments(const Queue& queue, ArrayView<const T> src, ArrayView<const std::int64_t> source,
                  ArrayView<const std::int64_t> target, ArrayView<T> y) {
  const index_t count = target.size();
  for_each_element(queue, "put_add", count,
                   AddSegments<T>{src.data, source.data, target.data, y.data, count});
}

#define CNNCORE_INSTANTIATE(T)                                                                \
  template void add_segments(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>, \
                             ArrayView<const std::int64_t>, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
