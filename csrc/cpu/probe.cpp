#include "cpu/probe.h"

#include "cnncore/threads.h"
#include "cpu/dispatch_isa.h"

namespace cnncore {

CNNCORE_DECLARE_FOR_EACH_ISA(template <class T> double multiply_add_loop(index_t rounds))
CNNCORE_DECLARE_FOR_EACH_ISA(void triad_loop(float* a, const float* b, const float* c,
                                             index_t count))

template <class T>
double probe_arithmetic(index_t rounds) {
  const auto loop = CNNCORE_SELECT_ISA(multiply_add_loop<T>);
  // Many short tasks, so that a thread that was held up does not decide the figure.
  const index_t tasks = 64 * get_num_threads();
  double operations = 0;
  parallel_for(tasks, 1, [&](index_t begin, index_t end) {
    for (index_t task = begin; task < end; ++task) {
      const double done = loop(rounds);
      if (task == 0) operations = done;
    }
  });
  return operations * static_cast<double>(tasks);
}

void probe_memory(float* a, const float* b, const float* c, index_t count, index_t sweeps) {
  const auto loop = CNNCORE_SELECT_ISA(triad_loop);
  const index_t part = ceil_div(count, get_num_threads());
  parallel_for(count, part, [&](index_t begin, index_t end) {
    for (index_t sweep = 0; sweep < sweeps; ++sweep)
      loop(a + begin, b + begin, c + begin, end - begin);
  });
}

template double probe_arithmetic<float>(index_t);
template double probe_arithmetic<double>(index_t);

}  // namespace cnncore
