// "winograd_4x4", "winograd_2x2", "winograd_phases_4x4" and "winograd_phases_3x3": the rows of
// winograd.h in the table of algorithms.
#include <cstring>

#include "cpu/conv/winograd.h"

namespace cnncore {
namespace {

template <class T>
class WinogradLayer final : public ConvLayer<T> {
 public:
  WinogradLayer(const ConvShape& shape, ConvDirection direction, index_t m, const T* weight,
                const T* bias, typename Winograd<T>::Weights weights)
      : engine_(shape, direction, m, weight, bias, weights) {}

  void run(const T* from, const Finish<T>& finish, T* to) const override {
    engine_.run(engine_.source(from), finish, engine_.target(to));
  }

  std::size_t bytes() const override { return engine_.bytes(); }

 private:
  Winograd<T> engine_;
};

template <class T, int m>
std::unique_ptr<ConvLayer<T>> prepare(const ConvShape& s, ConvDirection direction, const T* weight,
                                      const T* bias) {
  return std::make_unique<WinogradLayer<T>>(s, direction, m, weight, bias,
                                            Winograd<T>::Weights::keep);
}

template <class T, int m>
std::unique_ptr<ConvLayer<T>> prepare_once(const ConvShape& s, ConvDirection direction,
                                           const T* weight, const T* bias) {
  return std::make_unique<WinogradLayer<T>>(s, direction, m, weight, bias,
                                            Winograd<T>::Weights::borrow);
}

template <class T, int m>
void weight_of(const ConvShape& s, const T* x, const T* gy, T* gweight) {
  winograd_weight(s, m, x, gy, gweight);
}

}  // namespace

template <class T>
const ConvAlgorithm<T>& winograd_2x2_algorithm() {
  static const ConvAlgorithm<T> algorithm{"winograd_2x2",      &winograd_serves,
                                          &prepare<T, 2>,      &weight_of<T, 2>,
                                          &winograd_2x2_steps, &prepare_once<T, 2>};
  return algorithm;
}

template <class T>
const ConvAlgorithm<T>& winograd_4x4_algorithm() {
  static const ConvAlgorithm<T> algorithm{"winograd_4x4",      &winograd_serves,
                                          &prepare<T, 4>,      &weight_of<T, 4>,
                                          &winograd_4x4_steps, &prepare_once<T, 4>};
  return algorithm;
}

template <class T>
const ConvAlgorithm<T>& winograd_phases_3x3_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "winograd_phases_3x3", &winograd_phases_serve,     &prepare<T, 3>,
      &weight_of<T, 3>,      &winograd_phases_3x3_steps, &prepare_once<T, 3>};
  return algorithm;
}

template <class T>
const ConvAlgorithm<T>& winograd_phases_4x4_algorithm() {
  static const ConvAlgorithm<T> algorithm{
      "winograd_phases_4x4", &winograd_phases_serve,     &prepare<T, 4>,
      &weight_of<T, 4>,      &winograd_phases_4x4_steps, &prepare_once<T, 4>};
  return algorithm;
}

index_t winograd_tile(const char* algorithm) {
  return algorithm[std::strlen(algorithm) - 1] - '0';
}

#define CNNCORE_INSTANTIATE(T)                                      \
  template const ConvAlgorithm<T>& winograd_2x2_algorithm();        \
  template const ConvAlgorithm<T>& winograd_4x4_algorithm();        \
  template const ConvAlgorithm<T>& winograd_phases_3x3_algorithm(); \
  template const ConvAlgorithm<T>& winograd_phases_4x4_algorithm()
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
