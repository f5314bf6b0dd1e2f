#include "cpu/dispatch_isa.h"

#include <cstdlib>
#include <stdexcept>

namespace cnncore {
namespace {

#if CNNCORE_X86
// __builtin_cpu_supports also asks whether the operating system saves the wide registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

Isa choose() {
  const std::vector<Isa> present = available_isas();
  const char* wanted = std::getenv("CNNCORE_ISA");
  if (wanted == nullptr || *wanted == '\0') return present.back();
  std::string names;
  for (Isa isa : present) {
    if (std::string(wanted) == isa_name(isa)) return isa;
    names += names.empty() ? isa_name(isa) : std::string(", ") + isa_name(isa);
  }
  throw std::runtime_error("CNNCORE_ISA: expected one of those this machine has (" + names +
                           "), got '" + wanted + "'; try: unset CNNCORE_ISA");
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

std::vector<Isa> available_isas() {
  std::vector<Isa> present{Isa::baseline};
#if CNNCORE_X86
  if (has_avx2()) present.push_back(Isa::avx2);
  if (has_avx512()) present.push_back(Isa::avx512);
#endif
  return present;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
#if CNNCORE_X86
  const std::pair<const char*, bool> all[] = {
      {"sse2", __builtin_cpu_supports("sse2") != 0},
      {"avx", __builtin_cpu_supports("avx") != 0},
      {"avx2", __builtin_cpu_supports("avx2") != 0},
      {"fma", __builtin_cpu_supports("fma") != 0},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0},
      {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
      {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
      {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
  };
  for (const auto& [name, present] : all)
    if (present) names.emplace_back(name);
#elif defined(__aarch64__)
  names.emplace_back("neon");
#endif
  return names;
}

}  // namespace cnncore
