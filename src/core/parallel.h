#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

namespace hadal {

// One team of threads for the whole process. Workers spin for a short while after a job, then
// park, so that small steps in a row cost microseconds and an idle program costs nothing.
//
// Any thread may call. While one caller's job has the team, another caller's job runs in the
// calling thread alone, so callers never wait for each other.
//
// Determinism: work is cut by the caller's indices, never by the number of threads. A function run
// under parallel_for must write only what belongs to its own indices; then every result is the same
// bits for any number of threads.

// Threads that take part (the caller included). At least 1. Default: the CPUs this process may use.
int64_t num_threads();
void set_num_threads(int64_t n);  // Error{kUsage} unless 1 <= n <= 1024; not from inside a job

// Which of the num_threads() threads is running this: 0 for a caller. For per-thread scratch that
// belongs to the call (two callers are both 0 at the same time).
int64_t thread_index();

namespace detail {
using RangeFn = void (*)(void* context, int64_t begin, int64_t end);
void run_ranges(int64_t n, int64_t grain, RangeFn fn, void* context);
void run_tasks(int64_t n, RangeFn fn, void* context);
}  // namespace detail

// Calls fn(begin, end) on disjoint contiguous ranges that cover [0, n), at most one a thread, none
// shorter than `grain` (unless n is). The first exception thrown is rethrown here, after all ended.
// Nested calls run in the calling thread.
template <class Fn>
void parallel_for(int64_t n, int64_t grain, Fn&& fn) {
  using F = std::remove_reference_t<Fn>;
  detail::run_ranges(
      n, grain,
      [](void* context, int64_t begin, int64_t end) { (*static_cast<F*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

// Calls fn(i) for every i in [0, n), threads taking the next one as they become free: for tasks of
// uneven size. Exceptions as above.
template <class Fn>
void parallel_tasks(int64_t n, Fn&& fn) {
  using F = std::remove_reference_t<Fn>;
  detail::run_tasks(
      n,
      [](void* context, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) (*static_cast<F*>(context))(i);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

// For tests and benchmarks: this many threads until destroyed.
class ScopedThreads {
 public:
  explicit ScopedThreads(int64_t n) : previous_(num_threads()) { set_num_threads(n); }
  ~ScopedThreads();
  ScopedThreads(const ScopedThreads&) = delete;
  ScopedThreads& operator=(const ScopedThreads&) = delete;

 private:
  int64_t previous_;
};

}  // namespace hadal
