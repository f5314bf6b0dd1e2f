#include "cuda/conv_family.h"

namespace cnncore::cuda {
CNNCORE_CONVOLUTIONS(float)
}  // namespace cnncore::cuda
