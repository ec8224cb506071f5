#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace hadal {
namespace {

constexpr int kSpins = 20'000;  // some tens of microseconds: longer than the gap between two ops

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int64_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

thread_local int64_t this_thread_index = 0;
thread_local bool inside_job = false;

struct Job {
  detail::RangeFn fn = nullptr;
  void* context = nullptr;
  int64_t n = 0;
  int64_t parts = 0;  // contiguous ranges, or 0: single tasks taken from `next`
  std::atomic<int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void run() {
    try {
      for (;;) {
        const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= (parts > 0 ? parts : n)) return;
        if (parts > 0) {
          fn(context, n * i / parts, n * (i + 1) / parts);
        } else {
          fn(context, i, i + 1);
        }
      }
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
};

class Team {
 public:
  explicit Team(int64_t size) {
    for (int64_t i = 1; i < size; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Team() {
    job_ = nullptr;
    publish();
    for (std::thread& t : workers_) t.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int64_t size() const { return static_cast<int64_t>(workers_.size()) + 1; }

  void run(Job& job) {
    const std::lock_guard one_job_at_a_time(run_mutex_);
    job_ = &job;
    running_.store(static_cast<int64_t>(workers_.size()), std::memory_order_relaxed);
    publish();
    inside_job = true;
    job.run();
    inside_job = false;
    while (running_.load(std::memory_order_acquire) > 0) pause_cpu();
  }

 private:
  void publish() {
    {
      const std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (parked_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
  }

  void wait_for_generation_after(int64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (generation_.load(std::memory_order_acquire) != seen) return;
      pause_cpu();
    }
    std::unique_lock lock(mutex_);
    parked_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    parked_.fetch_sub(1, std::memory_order_relaxed);
  }

  void work(int64_t index) {
    this_thread_index = index;
    inside_job = true;
    for (int64_t seen = 0;;) {
      wait_for_generation_after(seen);
      ++seen;
      if (job_ == nullptr) return;
      job_->run();
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex run_mutex_;
  Job* job_ = nullptr;
  std::atomic<int64_t> generation_{0};
  std::atomic<int64_t> running_{0};
  std::atomic<int64_t> parked_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

struct TeamSlot {
  std::mutex mutex;
  int64_t wanted = usable_cpus();
  std::unique_ptr<Team> team;
};

TeamSlot& slot() {
  static TeamSlot the_slot;
  return the_slot;
}

Team& team() {
  TeamSlot& s = slot();
  const std::lock_guard lock(s.mutex);
  if (!s.team || s.team->size() != s.wanted) {
    s.team.reset();
    s.team = std::make_unique<Team>(s.wanted);
  }
  return *s.team;
}

void run_job(Job& job) {
  team().run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace

int64_t num_threads() {
  TeamSlot& s = slot();
  const std::lock_guard lock(s.mutex);
  return s.wanted;
}

void set_num_threads(int64_t n) {
  HADAL_CHECK(n >= 1 && n <= 1024, kUsage, "threads: ", n, " is not between 1 and 1024");
  HADAL_CHECK(!inside_job, kInternal, "set_num_threads called from inside a parallel job");
  TeamSlot& s = slot();
  const std::lock_guard lock(s.mutex);
  s.wanted = n;
}

int64_t thread_index() {
  return this_thread_index;
}

namespace detail {

void run_ranges(int64_t n, int64_t grain, RangeFn fn, void* context) {
  if (n <= 0) return;
  const int64_t parts = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, num_threads());
  if (parts == 1 || inside_job) return fn(context, 0, n);
  Job job;
  job.fn = fn;
  job.context = context;
  job.n = n;
  job.parts = parts;
  run_job(job);
}

void run_tasks(int64_t n, RangeFn fn, void* context) {
  if (n <= 0) return;
  if (n == 1 || inside_job || num_threads() == 1) return fn(context, 0, n);
  Job job;
  job.fn = fn;
  job.context = context;
  job.n = n;
  run_job(job);
}

}  // namespace detail
}  // namespace hadal
