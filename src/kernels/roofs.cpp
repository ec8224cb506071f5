#include <algorithm>
#include <chrono>

#include "core/parallel.h"
#include "core/tensor.h"
#include "kernels/selftest.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kStreams[] = {1, 2, 4, 8};  // a thread

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Best rate of `repeats` runs of fn, which returns how much it did.
template <class Fn>
double best_rate(int64_t repeats, Fn fn) {
  double best = 0;
  for (int64_t i = 0; i < repeats; ++i) {
    const Clock::time_point start = Clock::now();
    const double amount = fn();
    best = std::max(best, amount / seconds_since(start));
  }
  return best;
}

// fn(thread) once on each of the threads, and the sum of what it returns.
template <class Fn>
double on_every_thread(int64_t threads, Fn fn) {
  std::vector<double> amounts(static_cast<size_t>(threads));
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) amounts[static_cast<size_t>(i)] = fn(i);
  });
  double total = 0;
  for (double a : amounts) total += a;
  return total;
}

double arithmetic_rate(double (*peak)(int64_t) noexcept, int64_t threads,
                       const RoofOptions& options) {
  // As many steps as fill the time on one thread.
  int64_t steps = 1000;
  for (;;) {
    const Clock::time_point start = Clock::now();
    peak(steps);
    const double seconds = seconds_since(start);
    if (seconds > options.seconds_of_arithmetic / 4) {
      steps = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(steps) *
                                                        options.seconds_of_arithmetic / seconds));
      break;
    }
    steps *= 2;
  }
  return best_rate(options.repeats,
                   [&] { return on_every_thread(threads, [&](int64_t) { return peak(steps); }); });
}

double read_rate(const Kernels& kernel, const Buffer& memory, int64_t streams, int64_t threads,
                 const RoofOptions& options) {
  const int64_t step = 128 * streams, share = memory.bytes() / threads / step * step;
  return best_rate(options.repeats, [&] {
    return on_every_thread(threads, [&](int64_t i) {
      kernel.read_memory(memory.data() + i * share, share, streams);
      return static_cast<double>(share);
    });
  });
}

// Both thread counts of one measurement, in billions.
template <class Fn>
Rate rate_of(Fn fn) {
  const int64_t all = num_threads();
  Rate rate;
  {
    const ScopedThreads one(1);
    rate.one_thread = fn(1) / 1e9;
  }
  rate.all_threads = all == 1 ? rate.one_thread : fn(all) / 1e9;
  return rate;
}

}  // namespace

double arithmetic_roof(double (*peak)(int64_t) noexcept, const RoofOptions& options) {
  return arithmetic_rate(peak, num_threads(), options);
}

double read_roof(const RoofOptions& options) {
  const Buffer memory(options.read_bytes);
  std::fill_n(memory.data(), memory.bytes(), std::byte{1});
  double best = 0;
  for (int64_t streams : kStreams) {
    best = std::max(best, read_rate(kernels(), memory, streams, num_threads(), options));
  }
  return best;
}

Roofs measure_roofs(const RoofOptions& options) {
  const Kernels& kernel = kernels();
  Roofs roofs;
  const auto arithmetic = [&](double (*peak)(int64_t) noexcept) {
    return rate_of([&](int64_t threads) { return arithmetic_rate(peak, threads, options); });
  };
  roofs.fp32_gflops = arithmetic(kernel.peak_fp32);
  roofs.bf16_gflops = arithmetic(kernel.peak_bf16);
  roofs.int8_gops = arithmetic(kernel.peak_int8);

  const Buffer memory(options.read_bytes);
  std::fill_n(memory.data(), memory.bytes(), std::byte{1});
  for (int64_t streams : kStreams) {
    const Rate rate = rate_of(
        [&](int64_t threads) { return read_rate(kernel, memory, streams, threads, options); });
    roofs.reads.push_back({streams, rate});
    Rate& best = roofs.read_gb_per_s;
    best.one_thread = std::max(best.one_thread, rate.one_thread);
    best.all_threads = std::max(best.all_threads, rate.all_threads);
  }
  return roofs;
}

}  // namespace hadal
