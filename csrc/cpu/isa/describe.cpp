// Says which instruction set these sources were compiled for: the smallest use of the mechanism.
#include "cpu/isa/simd.h"

namespace cnncore {
namespace CNNCORE_ISA_NAMESPACE {

const char* compiled_isa() {
  return CNNCORE_ISA_NAME;
}
int vector_bytes() {
  return kVectorBytes;
}

}  // namespace CNNCORE_ISA_NAMESPACE
}  // namespace cnncore
