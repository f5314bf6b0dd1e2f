#include "cpu/conv/conv2d.h"

#include "cnncore/registry.h"
#include "cpu/conv/select.h"

namespace cnncore {

CNNCORE_KERNEL(conv2d);
template <class T>
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, const Finish<T>& finish,
            T* y, const std::string& algorithm) {
  constexpr ConvDirection direction = ConvDirection::output;
  select_algorithm<T>(algorithm, s, direction)
      .prepare(s, direction, weight, bias)
      ->run(x, finish, y);
}

CNNCORE_KERNEL(conv_transpose2d);
template <class T>
void conv_transpose2d(const ConvShape& s, const T* y, const T* weight, const T* bias,
                      const Finish<T>& finish, T* x, const std::string& algorithm) {
  constexpr ConvDirection direction = ConvDirection::input;
  select_algorithm<T>(algorithm, s, direction)
      .prepare(s, direction, weight, bias)
      ->run(y, finish, x);
}

CNNCORE_KERNEL(conv2d_weight);
template <class T>
void conv2d_weight(const ConvShape& s, const T* x, const T* gy, T* gweight,
                   const std::string& algorithm) {
  select_algorithm<T>(algorithm, s, ConvDirection::weight).weight(s, x, gy, gweight);
}

#define CNNCORE_INSTANTIATE(T)                                                                     \
  template void conv2d(const ConvShape&, const T*, const T*, const T*, const Finish<T>&, T*,       \
                       const std::string&);                                                        \
  template void conv_transpose2d(const ConvShape&, const T*, const T*, const T*, const Finish<T>&, \
                                 T*, const std::string&);                                          \
  template void conv2d_weight(const ConvShape&, const T*, const T*, T*, const std::string&)
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
