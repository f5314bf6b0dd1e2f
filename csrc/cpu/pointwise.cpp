#include "cpu/pointwise.h"

#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"
#include "cpu/finish.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void pointwise_loop(int kind, int order, const T* x,
                                                                    const T* scale, T* y, index_t n,
                                                                    T p, T q))
CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> void binary_loop(int kind, const T* a,
                                                                 bool a_single, const T* b,
                                                                 bool b_single, T* y, index_t n))

CNNCORE_KERNEL(pointwise);
template <class T>
void pointwise(ArrayView<const T> x, Activation kind, const double (&params)[2], int order,
               ArrayView<const T> scale, ArrayView<T> y) {
  const auto loop = CNNCORE_SELECT_ISA(pointwise_loop<T>);
  parallel_for(x.size(), grain_for(1), [&](index_t begin, index_t end) {
    loop(static_cast<int>(kind), order, x.data + begin,
         scale.data == nullptr ? nullptr : scale.data + begin, y.data + begin, end - begin,
         static_cast<T>(params[0]), static_cast<T>(params[1]));
  });
}

template <class T>
void finish_all(const Finish<T>& finish, T* y, index_t n) {
  if (!finish.needed()) return;
  parallel_for(n, grain_for(1), [&](index_t begin, index_t end) {
    finish_run(finish, finish.residual == nullptr ? nullptr : finish.residual + begin, y + begin,
               end - begin);
  });
}

CNNCORE_KERNEL(ufunc);
template <class T>
void binary(Binary kind, ArrayView<const T> a, ArrayView<const T> b, ArrayView<T> y) {
  const auto loop = CNNCORE_SELECT_ISA(binary_loop<T>);
  const index_t n = y.size();
  const bool a_single = a.size() != n, b_single = b.size() != n;
  parallel_for(n, grain_for(1), [&](index_t begin, index_t end) {
    loop(static_cast<int>(kind), a.data + (a_single ? 0 : begin), a_single,
         b.data + (b_single ? 0 : begin), b_single, y.data + begin, end - begin);
  });
}

#define CNNCORE_INSTANTIATE(T)                                                      \
  template void pointwise(ArrayView<const T>, Activation, const double (&)[2], int, \
                          ArrayView<const T>, ArrayView<T>);                        \
  template void finish_all(const Finish<T>&, T*, index_t);                          \
  template void binary(Binary, ArrayView<const T>, ArrayView<const T>, ArrayView<T>);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
