#include "cpu/conv/select.h"

#include <atomic>
#include <cstring>

#include "cnncore/check.h"
#include "cpu/tile.h"

namespace cnncore {
namespace {

std::atomic<Precision> precision{Precision::fast};

bool allowed(const char* name) {
  return get_precision() == Precision::fast || std::strcmp(name, "winograd_4x4") != 0;
}

}  // namespace

Precision get_precision() {
  return precision.load(std::memory_order_relaxed);
}

void set_precision(Precision wanted) {
  precision.store(wanted, std::memory_order_relaxed);
}

template <class T>
const std::vector<ConvAlgorithm<T>>& conv_algorithms() {
  static const std::vector<ConvAlgorithm<T>> all{im2col_algorithm<T>(),
                                                 implicit_gemm_algorithm<T>(),
                                                 direct_algorithm<T>(),
                                                 depthwise_algorithm<T>(),
                                                 winograd_2x2_algorithm<T>(),
                                                 winograd_4x4_algorithm<T>(),
                                                 winograd_phases_3x3_algorithm<T>(),
                                                 winograd_phases_4x4_algorithm<T>()};
  return all;
}

template <class T>
std::vector<ConvEstimate> conv_estimates(const ConvShape& shape, ConvDirection direction) {
  std::vector<ConvEstimate> estimates;
  for (const ConvAlgorithm<T>& algorithm : conv_algorithms<T>())
    if (algorithm.serves(shape, direction))
      estimates.push_back({algorithm.name,
                           algorithm.steps(shape, direction, tile_kernels<T>().width),
                           allowed(algorithm.name)});
  return estimates;
}

template <class T>
const ConvAlgorithm<T>& select_algorithm(const std::string& name, const ConvShape& shape,
                                         ConvDirection direction) {
  const index_t width = tile_kernels<T>().width;
  const ConvAlgorithm<T>* best = nullptr;
  double least = 0;
  std::string serving;
  for (const ConvAlgorithm<T>& algorithm : conv_algorithms<T>()) {
    if (!algorithm.serves(shape, direction)) continue;
    if (name == algorithm.name) return algorithm;
    serving += std::string(", \"") + algorithm.name + "\"";
    const bool asked =
        name == "auto" || (name == "winograd" && std::strncmp(algorithm.name, "winograd", 8) == 0);
    if (!asked || !allowed(algorithm.name)) continue;
    const double steps = algorithm.steps(shape, direction, width);
    if (best == nullptr || steps < least) {
      best = &algorithm;
      least = steps;
    }
  }
  if (best != nullptr) return *best;
  throw ArgumentError("algorithm", "one that serves this convolution: \"auto\"" + serving,
                      "\"" + name + "\"", "\"auto\"");
}

#define CNNCORE_INSTANTIATE(T)                                                            \
  template const std::vector<ConvAlgorithm<T>>& conv_algorithms();                        \
  template std::vector<ConvEstimate> conv_estimates<T>(const ConvShape&, ConvDirection);  \
  template const ConvAlgorithm<T>& select_algorithm(const std::string&, const ConvShape&, \
                                                    ConvDirection)
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
