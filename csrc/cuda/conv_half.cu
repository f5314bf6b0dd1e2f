#include "cuda/conv_family.h"

namespace cnncore::cuda {
CNNCORE_CONVOLUTIONS(Half)
}  // namespace cnncore::cuda
