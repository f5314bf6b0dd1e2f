// Threads, memory, instruction sets: what runs underneath.
#include "bindings/array.h"
#include "bindings/bindings.h"
#include "cnncore/check.h"
#include "cnncore/memory_pool.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"
#include "cpu/probe.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(const char* compiled_isa())
CNNCORE_DECLARE_FOR_EACH_ISA(int vector_bytes())

namespace {

py::dict stats_dict() {
  const MemoryStats stats = memory_stats();
  py::dict result;
  result["in_use"] = stats.in_use;
  result["cached"] = stats.cached;
  result["peak"] = stats.peak;
  result["limit"] = stats.limit;
  result["hits"] = stats.hits;
  result["misses"] = stats.misses;
  result["enabled"] = stats.enabled;
  return result;
}

py::dict sources() {
  py::dict result;
  for (const KernelSource* source = kernel_sources(); source != nullptr; source = source->next)
    result[source->name] = std::string(source->file) + ":" + std::to_string(source->line);
  return result;
}

py::list available() {
  py::list result;
  for (Isa isa : available_isas()) result.append(isa_name(isa));
  return result;
}

py::list features() {
  py::list result;
  for (const std::string& name : cpu_features()) result.append(name);
  return result;
}

py::dict build_info() {
  py::dict result;
  result["compiler"] = std::string(
#if defined(__clang__)
      "Clang " __clang_version__
#elif defined(__GNUC__)
      "GCC " __VERSION__
#else
      "unknown"
#endif
  );
  result["build_type"] = CNNCORE_BUILD_TYPE;
  result["sanitizers"] = CNNCORE_SANITIZERS;
  return result;
}

double probe_arithmetic_binding(const py::dtype& dtype, index_t rounds) {
  CNNCORE_REQUIRE(rounds >= 0, "rounds", "a count >= 0", rounds);
  const bool wide = dtype.itemsize() == sizeof(double);
  double operations = 0;
  without_gil([&] {
    operations = wide ? probe_arithmetic<double>(rounds) : probe_arithmetic<float>(rounds);
  });
  return operations;
}

// Sweeps over three arrays of `count` floats that are kept between calls by the caller.
void probe_memory_binding(py::array_t<float, py::array::c_style>& a,
                          const py::array_t<float, py::array::c_style>& b,
                          const py::array_t<float, py::array::c_style>& c, index_t sweeps) {
  CNNCORE_REQUIRE(a.size() == b.size() && a.size() == c.size(), "b and c", "the size of a",
                  b.size());
  float* const to = a.mutable_data();
  const index_t count = a.size();
  without_gil([&] { probe_memory(to, b.data(), c.data(), count, sweeps); });
}

}  // namespace

void bind_runtime(py::module_& module) {
  module.def("get_num_threads", &get_num_threads);
  module.def("set_num_threads", &set_num_threads, py::arg("count"));
  module.def("memory_stats", &stats_dict);
  module.def("reset_memory_peak", &reset_memory_peak);
  module.def("release_cached_memory", &release_cached_memory);
  module.def("set_memory_limit", &set_memory_limit, py::arg("bytes"));
  module.def(
      "empty",
      [](const std::vector<index_t>& shape, const py::dtype& dtype) {
        return new_array(dtype, shape);
      },
      py::arg("shape"), py::arg("dtype"));
  module.def("sources", &sources);
  module.def("isa", [] { return CNNCORE_SELECT_ISA(compiled_isa)(); });
  module.def("vector_bytes", [] { return CNNCORE_SELECT_ISA(vector_bytes)(); });
  module.def("available_isas", &available);
  module.def("features", &features);
  module.def("build_info", &build_info);
  module.def("probe_arithmetic", &probe_arithmetic_binding, py::arg("dtype"), py::arg("rounds"));
  module.def("probe_memory", &probe_memory_binding);
}

}  // namespace cnncore
