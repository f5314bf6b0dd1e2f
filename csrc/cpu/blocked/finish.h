// What the kernels on blocked arrays do of a Finish while they store.
#pragma once

#include <limits>

#include "cpu/finish.h"

namespace cnncore {

// What the store can do of a finish, and whether a curve is left to be applied.
template <class T>
struct Limits {
  T low = -std::numeric_limits<T>::infinity(), high = std::numeric_limits<T>::infinity();
  bool curve = false;

  explicit Limits(const Finish<T>& finish) {
    if (finish.activation == kNoActivation) return;
    switch (static_cast<Activation>(finish.activation)) {
      case Activation::relu:
        low = 0;
        break;
      case Activation::relu6:
        low = 0;
        high = 6;
        break;
      case Activation::hardtanh:
        low = finish.p;
        high = finish.q;
        break;
      default:
        curve = true;
    }
  }
};

}  // namespace cnncore
