#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"

namespace hadal {
namespace {

// Waking a parked thread costs 10 to 50 us; the gap between two operations is mostly shorter.
constexpr auto kSpinTime = std::chrono::microseconds(100);

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int64_t kMaxThreads = 1024;

int64_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int64_t cpus = ::sched_getaffinity(0, sizeof set, &set) == 0
                           ? CPU_COUNT(&set)
                           : int64_t{std::thread::hardware_concurrency()};
  return std::clamp<int64_t>(cpus, 1, kMaxThreads);
}

// NOLINTBEGIN(cppcoreguidelines-avoid-non-const-global-variables): what a thread is, it alone sets.
thread_local int64_t this_thread_index = 0;
thread_local bool inside_job = false;
// NOLINTEND(cppcoreguidelines-avoid-non-const-global-variables)

// Waits until done() is true or kSpinTime has passed; says which.
template <class Done>
bool spin_until(Done done) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() - start < kSpinTime);
  return false;
}

struct Job {
  detail::RangeFn fn = nullptr;
  void* context = nullptr;
  int64_t n = 0;
  int64_t parts = 0;  // contiguous ranges, or 0: single tasks taken from `next`
  alignas(64) std::atomic<int64_t> next{0};
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

// The caller and its workers. `word_` announces a job: its running number and how many threads may
// take part. `entry_` is the door to it: the job's number, whether it is closed, and how many
// workers are inside. A worker that finds the job open enters and takes parts; the caller takes
// parts until none is left, closes the door and waits for those inside. So it never waits for a
// worker that is still waking up, and job_ is read only inside, where it cannot be stale.
class Team {
 public:
  explicit Team(int64_t size) : spins_(size <= usable_cpus()) {
    try {
      for (int64_t i = 1; i < size; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error& e) {
      stop();
      throw Error(ErrorKind::kResource,
                  str("cannot start thread ", workers_.size() + 2, " of ", size, ": ", e.what()));
    }
  }
  ~Team() { stop(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int64_t size() const { return static_cast<int64_t>(workers_.size()) + 1; }

  // By one caller at a time. At most `threads` take part, the caller among them.
  void run(Job& job, int64_t threads) {
    job_ = &job;
    ++number_;
    entry_.store(number_ << kLowBits);
    announce(static_cast<uint64_t>(threads));
    inside_job = true;
    job.run();
    inside_job = false;
    entry_.fetch_or(kClosed);
    const auto empty = [this] { return (entry_.load() & kInside) == 0; };
    if (empty() || (spins_ && spin_until(empty))) return;
    std::unique_lock lock(mutex_);
    caller_parked_.store(true);
    all_left_.wait(lock, empty);
    caller_parked_.store(false);
  }

 private:
  static constexpr int kLowBits = 16;
  static constexpr uint64_t kThreads = 0xffff, kStop = 0xffff;     // of word_
  static constexpr uint64_t kClosed = 1u << 15, kInside = 0x7fff;  // of entry_

  void announce(uint64_t threads) {
    {
      const std::lock_guard lock(mutex_);
      word_.store(number_ << kLowBits | threads, std::memory_order_release);
    }
    // A worker that parks from here on sees the new word under the mutex.
    if (parked_.load() > 0) wake_.notify_all();
  }

  void stop() {
    ++number_;
    announce(kStop);
    for (std::thread& t : workers_) t.join();
  }

  uint64_t next_word(uint64_t seen) {
    const auto changed = [&] { return word_.load(std::memory_order_acquire) != seen; };
    if (!spins_ || !spin_until(changed)) {
      std::unique_lock lock(mutex_);
      parked_.fetch_add(1);
      wake_.wait(lock, changed);
      parked_.fetch_sub(1);
    }
    return word_.load(std::memory_order_acquire);
  }

  bool enter(uint64_t number) {
    uint64_t entry = entry_.load();
    while (entry >> kLowBits == number && (entry & kClosed) == 0) {
      if (entry_.compare_exchange_weak(entry, entry + 1)) return true;
    }
    return false;
  }

  void leave() {
    const uint64_t before = entry_.fetch_sub(1);
    if ((before & (kClosed | kInside)) != (kClosed | 1) || !caller_parked_.load()) return;
    const std::lock_guard lock(mutex_);
    all_left_.notify_one();
  }

  void work(int64_t index) {
    this_thread_index = index;
    inside_job = true;
    for (uint64_t word = 0;;) {
      word = next_word(word);
      if ((word & kThreads) == kStop) return;
      if (index >= static_cast<int64_t>(word & kThreads) || !enter(word >> kLowBits)) continue;
      job_->run();
      leave();
    }
  }

  const bool spins_;  // not with more threads than CPUs: each would wait for another's time slice
  Job* job_ = nullptr;
  uint64_t number_ = 0;  // of the job; the caller's alone
  alignas(64) std::atomic<uint64_t> word_{0};
  alignas(64) std::atomic<uint64_t> entry_{kClosed};
  std::atomic<bool> caller_parked_{false};
  std::atomic<int64_t> parked_{0};
  std::mutex mutex_;
  std::condition_variable wake_, all_left_;
  std::vector<std::thread> workers_;
};

struct TeamSlot {
  std::atomic<int64_t> wanted{usable_cpus()};
  std::mutex mutex;  // held by the caller whose job has the team
  std::unique_ptr<Team> team;
};

TeamSlot& slot() {
  static TeamSlot the_slot;
  return the_slot;
}

// False when another caller has the team.
bool run_job(Job& job, int64_t threads) {
  TeamSlot& s = slot();
  const std::unique_lock lock(s.mutex, std::try_to_lock);
  if (!lock) return false;
  const int64_t wanted = num_threads();
  if (!s.team || s.team->size() != wanted) {
    s.team.reset();
    s.team = std::make_unique<Team>(wanted);
  }
  s.team->run(job, std::min(threads, wanted));
  return true;
}

}  // namespace

int64_t num_threads() {
  return slot().wanted.load(std::memory_order_relaxed);
}

void set_num_threads(int64_t n) {
  HADAL_CHECK(n >= 1 && n <= kMaxThreads, kUsage, "threads: ", n, " is not between 1 and ",
              kMaxThreads);
  HADAL_CHECK(!inside_job, kInternal, "set_num_threads called from inside a parallel job");
  slot().wanted.store(n, std::memory_order_relaxed);
}

// Not by set_num_threads, which may throw: `previous_` was valid, and jobs do not end here.
ScopedThreads::~ScopedThreads() {
  slot().wanted.store(previous_, std::memory_order_relaxed);
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
  if (!run_job(job, parts)) return fn(context, 0, n);
  if (job.error) std::rethrow_exception(job.error);
}

void run_tasks(int64_t n, RangeFn fn, void* context) {
  if (n <= 0) return;
  if (n == 1 || inside_job || num_threads() == 1) return fn(context, 0, n);
  Job job;
  job.fn = fn;
  job.context = context;
  job.n = n;
  if (!run_job(job, n)) return fn(context, 0, n);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace detail
}  // namespace hadal
