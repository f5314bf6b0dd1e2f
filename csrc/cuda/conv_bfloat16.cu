#include "cuda/conv_family.h"

namespace cnncore::cuda {
CNNCORE_CONVOLUTIONS(BFloat16)
}  // namespace cnncore::cuda
