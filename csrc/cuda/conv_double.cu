#include "cuda/conv_family.h"

namespace cnncore::cuda {
CNNCORE_CONVOLUTIONS(double)
}  // namespace cnncore::cuda
