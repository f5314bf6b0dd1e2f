// "winograd_4x4", "winograd_2x2" and "winograd_phases": the rows of winograd.h in the table of
// algorithms.
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
const ConvAlgorithm<T>& winograd_phases_algorithm() {
  static const ConvAlgorithm<T> algorithm{"winograd_phases",      &winograd_phases_serve,
                                          &prepare<T, kPhases>,   nullptr,
                                          &winograd_phases_steps, &prepare_once<T, kPhases>};
  return algorithm;
}

template const ConvAlgorithm<float>& winograd_phases_algorithm();
template const ConvAlgorithm<double>& winograd_phases_algorithm();
template const ConvAlgorithm<float>& winograd_2x2_algorithm();
template const ConvAlgorithm<double>& winograd_2x2_algorithm();
template const ConvAlgorithm<float>& winograd_4x4_algorithm();
template const ConvAlgorithm<double>& winograd_4x4_algorithm();

}  // namespace cnncore
