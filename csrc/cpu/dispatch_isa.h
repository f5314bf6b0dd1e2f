// Instruction sets, chosen once at run time.
//
// Sources in csrc/cpu/isa are compiled once per instruction set, each into a namespace of its own:
//
//   isa/thing.cpp:   namespace cnncore { namespace CNNCORE_ISA_NAMESPACE { void f(int n) {...} } }
//   thing.cpp:       CNNCORE_DECLARE_FOR_EACH_ISA(void f(int n))
//                    ... CNNCORE_SELECT_ISA(f)(3);
//
// Such a source must not use the standard library's templates or other functions that the compiler
// may emit out of line under a shared name (see macros.h): keep to plain loops, its own static
// functions and CNNCORE_HD headers.
#pragma once

#include <string>
#include <vector>

namespace cnncore {

enum class Isa { baseline, avx2, avx512 };

Isa active_isa();  // throws std::runtime_error when CNNCORE_ISA asks for what is absent
const char* isa_name(Isa isa);
std::vector<Isa> available_isas();
std::vector<std::string> cpu_features();

#if CNNCORE_X86
  #define CNNCORE_DECLARE_FOR_EACH_ISA(declaration) \
    namespace baseline {                            \
    declaration;                                    \
    }                                               \
    namespace avx2 {                                \
    declaration;                                    \
    }                                               \
    namespace avx512 {                              \
    declaration;                                    \
    }
  #define CNNCORE_SELECT_ISA(function)                                               \
    (::cnncore::active_isa() == ::cnncore::Isa::avx512 ? ::cnncore::avx512::function \
     : ::cnncore::active_isa() == ::cnncore::Isa::avx2 ? ::cnncore::avx2::function   \
                                                       : ::cnncore::baseline::function)
#else
  #define CNNCORE_DECLARE_FOR_EACH_ISA(declaration) \
    namespace baseline {                            \
    declaration;                                    \
    }
  #define CNNCORE_SELECT_ISA(function) (::cnncore::baseline::function)
#endif

}  // namespace cnncore
