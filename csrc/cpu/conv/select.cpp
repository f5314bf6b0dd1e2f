#include "cpu/conv/select.h"

#include "cnncore/check.h"

namespace cnncore {
namespace {

// The rule of "auto". Depthwise layers have no matrix to speak of; everything else is one.
template <class T>
const char* rule(const ConvShape& s, ConvDirection direction) {
  if (s.groups > 1 && depthwise_algorithm<T>().serves(s, direction)) return "depthwise";
  return "implicit_gemm";
}

}  // namespace

template <class T>
const std::vector<ConvAlgorithm<T>>& conv_algorithms() {
  static const std::vector<ConvAlgorithm<T>> all{
      im2col_algorithm<T>(), implicit_gemm_algorithm<T>(), depthwise_algorithm<T>(),
      winograd_2x2_algorithm<T>(), winograd_4x4_algorithm<T>()};
  return all;
}

template <class T>
const ConvAlgorithm<T>& select_algorithm(const std::string& name, const ConvShape& shape,
                                         ConvDirection direction) {
  const std::string wanted = name == "auto" ? rule<T>(shape, direction) : name;
  std::string serving;
  for (const ConvAlgorithm<T>& algorithm : conv_algorithms<T>()) {
    if (!algorithm.serves(shape, direction)) continue;
    if (algorithm.name == wanted) return algorithm;
    serving += std::string(", \"") + algorithm.name + "\"";
  }
  throw ArgumentError("algorithm", "one that serves this convolution: \"auto\"" + serving,
                      "\"" + name + "\"", "\"auto\"");
}

#define CNNCORE_INSTANTIATE(T)                                                            \
  template const std::vector<ConvAlgorithm<T>>& conv_algorithms();                        \
  template const ConvAlgorithm<T>& select_algorithm(const std::string&, const ConvShape&, \
                                                    ConvDirection)
CNNCORE_INSTANTIATE(float);
CNNCORE_INSTANTIATE(double);
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore
