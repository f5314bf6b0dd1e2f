#include "cnncore/threads.h"

#include <pthread.h>
#if defined(__linux__)
  #include <sched.h>
#endif

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "cnncore/check.h"
#include "cnncore/memory_pool.h"

namespace cnncore {
namespace {

constexpr int kMaxThreads = 256;

// How long a thread looks for work, or for the end of a job, before it goes to sleep. Waking a
// sleeper costs tens of microseconds, on a virtual machine up to a hundred: as much as many
// kernels take, and more than lies between two ops of a network. Where the team is larger than the
// machine a spinning thread would only stand in the way of a working one.
constexpr auto kPatience = std::chrono::microseconds(150);
constexpr int kLooks = 32;  // between two looks at the clock

thread_local bool inside_chunk = false;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int cores() {
  static const int count = static_cast<int>(max_of(1, std::thread::hardware_concurrency()));
  return count;
}

// Spins until `done()` or until patience has run out.
template <class Done>
void wait_awake(bool patient, Done&& done) {
  const auto end =
      std::chrono::steady_clock::now() + (patient ? kPatience : std::chrono::microseconds(0));
  do {
    for (int look = 0; look < kLooks; ++look) {
      if (done()) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
}

struct Job {
  index_t count, grain;
  detail::ChunkFunction function;
  void* context;
  std::atomic<index_t> next{0};  // first index not handed out yet
  std::mutex error_mutex;
  std::exception_ptr error;

  // Takes chunks until none is left.
  void work() {
    inside_chunk = true;
    for (;;) {
      const index_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) break;
      try {
        function(context, begin, min_of(count, begin + grain));
      } catch (...) {
        std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
    inside_chunk = false;
  }
};

// A worker joins a job only under the mutex and only while the job is posted, so a job may live on
// its caller's stack: the caller withdraws it and waits until the last worker has left.
class Team {
 public:
  explicit Team(int threads) : threads_(threads) {}

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void resize(int threads) { threads_.store(threads, std::memory_order_relaxed); }

  void run(Job& job) {
    std::unique_lock<std::mutex> turn(submission_, std::try_to_lock);
    const index_t chunks = ceil_div(job.count, job.grain);
    const int helpers = static_cast<int>(min_of(threads(), chunks)) - 1;
    // Another Python thread is using the team: do the work here rather than wait.
    if (!turn.owns_lock() || helpers < 1) {
      job.work();
      return;
    }
    int sleepers = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (workers_ < helpers) start_worker();
      send_helpers_away();
      posted_ = &job;
      seats_ = helpers;
      generation_.fetch_add(1, std::memory_order_release);
      sleepers = sleeping_;
    }
    if (sleepers > 0)
      for (int i = 0; i < helpers; ++i) wake_.notify_one();
    job.work();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      posted_ = nullptr;  // from here on nobody joins, so active_ only falls
    }
    wait_awake(patient(), [&] { return active_.load(std::memory_order_acquire) == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    left_.wait(lock, [&] { return active_.load() == 0; });
  }

  // fork(): hold everything while the address space is copied. The child's team starts anew.
  void before_fork() {
    submission_.lock();
    mutex_.lock();
  }
  void after_fork_in_parent() {
    mutex_.unlock();
    submission_.unlock();
  }

 private:
  bool patient() const { return threads() <= cores(); }

  void start_worker() {
    std::thread helper([this] { serve(); });
    helpers_.push_back(helper.native_handle());
    helper.detach();
    ++workers_;
    kept_off_ = -1;
  }

  // The system likes to wake a sleeper on the core of whoever wakes it, and to move it away at a
  // later clock tick only: for some milliseconds two threads then share one core while another is
  // idle. So helpers are told to keep off the caller's core, whenever that has changed.
  void send_helpers_away() {
#if defined(__linux__)
    const int core = sched_getcpu();
    if (core < 0 || core == kept_off_) return;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    CPU_CLR(core, &allowed);
    for (pthread_t helper : helpers_) pthread_setaffinity_np(helper, sizeof allowed, &allowed);
    kept_off_ = core;
#endif
  }

  void serve() {
    unsigned long seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (posted_ == nullptr || seats_ == 0 || seen == generation_.load()) {
        const unsigned long last = generation_.load();
        lock.unlock();
        wait_awake(patient(), [&] { return generation_.load(std::memory_order_acquire) != last; });
        lock.lock();
        ++sleeping_;
        wake_.wait(lock,
                   [&] { return posted_ != nullptr && seats_ > 0 && seen != generation_.load(); });
        --sleeping_;
      }
      seen = generation_.load();
      --seats_;
      ++active_;
      Job* job = posted_;
      lock.unlock();
      job->work();
      lock.lock();
      if (active_.fetch_sub(1, std::memory_order_release) == 1) left_.notify_one();
    }
  }

  std::atomic<int> threads_;
  std::mutex submission_;  // one parallel loop at a time
  std::mutex mutex_;       // guards what follows
  std::condition_variable wake_, left_;
  Job* posted_ = nullptr;
  int seats_ = 0;               // helpers that may still join the posted job
  std::atomic<int> active_{0};  // helpers in the posted job; written under the mutex
  int workers_ = 0;
  std::vector<pthread_t> helpers_;
  int kept_off_ = -1;  // the core that helpers may not use
  int sleeping_ = 0;   // helpers waiting in wake_
  std::atomic<unsigned long> generation_{0};
};

int initial_threads() {
  const char* text = std::getenv("CNNCORE_NUM_THREADS");
  if (text == nullptr || *text == '\0') return static_cast<int>(min_of(cores(), kMaxThreads));
  char* end = nullptr;
  const long count = std::strtol(text, &end, 10);
  CNNCORE_REQUIRE(*end == '\0' && count >= 1 && count <= kMaxThreads, "CNNCORE_NUM_THREADS",
                  "an integer from 1 to " + std::to_string(kMaxThreads), text);
  return static_cast<int>(count);
}

Team* team_instance = nullptr;

Team& team() {
  // Never destroyed: workers sleep in it until the process ends.
  static const bool ready = [] {
    // The memory pool's fork handlers must be registered before the team's: they run last to
    // first, and a loop, too, takes the team's lock before the pool's.
    memory_stats();
    team_instance = new Team(initial_threads());
    pthread_atfork([] { team_instance->before_fork(); },
                   [] { team_instance->after_fork_in_parent(); },
                   // The workers do not exist in the child and the old locks are left held.
                   [] { team_instance = new Team(team_instance->threads()); });
    return true;
  }();
  (void)ready;
  return *team_instance;
}

}  // namespace

int get_num_threads() {
  return team().threads();
}

void set_num_threads(int count) {
  CNNCORE_REQUIRE(count >= 1 && count <= kMaxThreads, "threads",
                  "an integer from 1 to " + std::to_string(kMaxThreads), count);
  team().resize(count);
}

void detail::run_chunks(index_t count, index_t grain, ChunkFunction function, void* context) {
  Job job;
  job.count = count;
  job.grain = grain;
  job.function = function;
  job.context = context;
  if (inside_chunk) {
    for (index_t begin = 0; begin < count; begin += grain)
      function(context, begin, min_of(count, begin + grain));
    return;
  }
  team().run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace cnncore
