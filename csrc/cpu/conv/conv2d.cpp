#include "cpu/conv/conv2d.h"

#include "cnncore/registry.h"
#include "cpu/conv/select.h"

namespace cnncore {

namespace {

template <class T>
void run_once(const ConvShape& s, ConvDirection direction, const T* weight, const T* bias,
              const T* from, const Finish<T>& finish, T* to, const std::string& name) {
  const ConvAlgorithm<T>& algorithm = select_algorithm<T>(name, s, direction);
  const auto prepare =
      algorithm.prepare_once != nullptr ? algorithm.prepare_once : algorithm.prepare;
  prepare(s, direction, weight, bias)->run(from, finish, to);
}

}  // namespace

CNNCORE_KERNEL(conv2d);
template <class T>
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, const Finish<T>& finish,
            T* y, const std::string& algorithm) {
  run_once(s, ConvDirection::output, weight, bias, x, finish, y, algorithm);
}

CNNCORE_KERNEL(conv_transpose2d);
template <class T>
void conv_transpose2d(const ConvShape& s, const T* y, const T* weight, const T* bias,
                      const Finish<T>& finish, T* x, const std::string& algorithm) {
  run_once(s, ConvDirection::input, weight, bias, y, finish, x, algorithm);
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
