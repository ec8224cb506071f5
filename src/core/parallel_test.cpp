#include "core/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using std::chrono::milliseconds;

using Range = std::pair<int64_t, int64_t>;

std::vector<Range> ranges_of(int64_t n, int64_t grain) {
  std::vector<Range> ranges;
  std::mutex mutex;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    ranges.emplace_back(begin, end);
  });
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST(ParallelFor, ranges_cover_everything_once_and_are_not_below_the_grain) {
  for (int64_t threads : {1, 2, 3, 7}) {
    const ScopedThreads scope(threads);
    for (int64_t n : {0, 1, 2, 6, 7, 8, 100, 1001}) {
      for (int64_t grain : {0, 1, 3, 50, 2000}) {
        const std::vector<Range> ranges = ranges_of(n, grain);
        int64_t next = 0;
        for (const auto& [begin, end] : ranges) {
          ASSERT_EQ(begin, next);
          ASSERT_GE(end - begin, std::min(n, std::max<int64_t>(grain, 1)));
          next = end;
        }
        ASSERT_EQ(next, n);
        ASSERT_LE(int64_t(ranges.size()), threads);
        if (n / std::max<int64_t>(grain, 1) >= threads) {
          ASSERT_EQ(int64_t(ranges.size()), threads);
        }
      }
    }
  }
}

TEST(ParallelFor, ranges_differ_by_one_at_most_even_for_huge_n) {
  const ScopedThreads scope(3);
  const std::vector<Range> ranges = ranges_of(1'000'000'000'000, 1);
  ASSERT_EQ(ranges.size(), 3u);
  for (const auto& [begin, end] : ranges) EXPECT_NEAR(double(end - begin), 1e12 / 3, 1);
}

TEST(ParallelTasks, every_task_runs_once) {
  for (int64_t threads : {1, 2, 5}) {
    const ScopedThreads scope(threads);
    for (int64_t n : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(n));
      parallel_tasks(n, [&](int64_t i) { ++count[size_t(i)]; });
      for (const auto& c : count) ASSERT_EQ(c, 1);
    }
  }
}

// Each of two tasks waits for the other: only two threads at once can finish them.
TEST(ParallelTasks, run_at_the_same_time_under_different_indices) {
  const ScopedThreads scope(2);
  std::atomic<int> arrived{0};
  std::array<int64_t, 2> index{-1, -1};
  parallel_tasks(2, [&](int64_t i) {
    index[size_t(i)] = thread_index();
    ++arrived;
    const auto start = std::chrono::steady_clock::now();
    while (arrived < 2 && std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
    }
  });
  EXPECT_EQ(arrived, 2);
  EXPECT_EQ(index[0] + index[1], 1) << "one is 0, the other 1";
  EXPECT_EQ(thread_index(), 0);
}

TEST(Parallel, an_exception_arrives_after_all_threads_have_ended) {
  for (int64_t threads : {1, 2, 4}) {
    const ScopedThreads scope(threads);
    std::atomic<int> running{0};
    const auto body = [&](int64_t i) {
      ++running;
      std::this_thread::sleep_for(milliseconds(1));
      --running;
      if (i == 3) throw Error(ErrorKind::kShape, "task 3 failed");
    };
    EXPECT_ERROR(parallel_tasks(8, body), kShape, "task 3 failed");
    EXPECT_EQ(running, 0);
    EXPECT_ERROR(parallel_for(100, 1, [](int64_t, int64_t) { throw Error(ErrorKind::kIo, "x"); }),
                 kIo, "x");
    std::atomic<int64_t> sum{0};
    parallel_tasks(10, [&](int64_t i) { sum += i; });
    EXPECT_EQ(sum, 45) << "the team works on";
  }
}

TEST(Parallel, nested_calls_run_in_the_calling_thread) {
  const ScopedThreads scope(3);
  std::atomic<int> wrong{0}, count{0};
  parallel_tasks(6, [&](int64_t) {
    const auto outer = std::this_thread::get_id();
    const int64_t index = thread_index();
    parallel_for(100, 1, [&](int64_t begin, int64_t end) {
      wrong += std::this_thread::get_id() != outer || begin != 0 || end != 100;
      parallel_tasks(4, [&](int64_t) {
        wrong += std::this_thread::get_id() != outer || thread_index() != index;
        ++count;
      });
    });
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(count, 24);
}

TEST(Parallel, the_number_of_threads_may_change_between_jobs) {
  const int64_t before = num_threads();
  {
    const ScopedThreads scope(2);
    EXPECT_EQ(num_threads(), 2);
    for (int64_t n : {5, 1, 3, 2, 8, 2}) {
      set_num_threads(n);
      std::atomic<int64_t> sum{0};
      std::atomic<int> strange{0};
      parallel_tasks(50, [&](int64_t i) {
        sum += i;
        strange += thread_index() < 0 || thread_index() >= n;
      });
      EXPECT_EQ(sum, 1225);
      EXPECT_EQ(strange, 0);
    }
  }
  EXPECT_EQ(num_threads(), before);
  EXPECT_GE(before, 1);
}

TEST(Parallel, impossible_numbers_of_threads_are_refused) {
  EXPECT_ERROR(set_num_threads(0), kUsage, "threads: 0 is not between 1 and 1024");
  EXPECT_ERROR(set_num_threads(1025), kUsage, "threads: 1025");
  const ScopedThreads scope(2);
  EXPECT_ERROR(parallel_tasks(2, [](int64_t) { set_num_threads(1); }), kInternal,
               "from inside a parallel job");
}

TEST(Parallel, callers_in_several_threads_do_not_wait_for_each_other) {
  const ScopedThreads scope(2);
  std::atomic<bool> second_done{false}, timed_out{false};
  std::thread second;
  parallel_tasks(2, [&](int64_t i) {
    if (i != 0) return;
    second = std::thread([&] {
      std::atomic<int64_t> sum{0};
      parallel_for(1000, 1, [&](int64_t b, int64_t e) { sum += e - b; });
      second_done = sum == 1000;
    });
    const auto start = std::chrono::steady_clock::now();
    while (!second_done && !timed_out) {
      timed_out = std::chrono::steady_clock::now() - start > std::chrono::seconds(20);
    }
  });
  second.join();
  EXPECT_TRUE(second_done);
  EXPECT_FALSE(timed_out);
}

TEST(Parallel, many_callers_many_short_jobs_and_changing_counts) {
  const ScopedThreads scope(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int64_t c = 0; c < 3; ++c) {
    callers.emplace_back([&, c] {
      std::vector<int64_t> out(97);
      for (int64_t job = 0; job < 1500; ++job) {
        if (c == 0 && job % 100 == 0) set_num_threads(1 + job / 100 % 4);
        parallel_for(97, 1, [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i) out[size_t(i)] = i * job + c;
        });
        for (int64_t i = 0; i < 97; ++i) wrong += out[size_t(i)] != i * job + c;
      }
    });
  }
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Parallel, works_after_the_workers_have_parked_and_idles_for_nothing) {
  const ScopedThreads scope(2);
  std::atomic<int64_t> count{0};
  const auto job = [&] { parallel_for(2, 1, [&](int64_t b, int64_t e) { count += e - b; }); };
  job();
  const std::clock_t start = std::clock();  // CPU time of this process, all threads
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(milliseconds(30));
    job();
  }
  const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(count, 12);
  EXPECT_LT(seconds, 0.06) << "CPU time of 150 ms of idling: the workers spin instead of parking";
}

}  // namespace
}  // namespace hadal
