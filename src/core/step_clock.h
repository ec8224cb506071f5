#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>

namespace hadal {

// Where the time and the arithmetic of training steps go, for `hadal bench-train`. Modules say
// which part they are in; without a StepClock that costs a null check.
//
//   StepClock clock;                        counts what this thread does from here on
//   { const TimedPart timed(StepPart::kHead);  ... count_flops(2 * m * n * k); }
//   clock.total(StepPart::kHead).seconds
enum class StepPart { kProjections, kAttention, kExperts, kHead, kOptimizer };  // kExperts: any FFN
constexpr size_t kParts = 5;
const char* part_name(StepPart part);

class StepClock {
 public:
  struct Total {
    double seconds = 0;
    double flops = 0;  // of the model: none for what is computed a second time
  };
  StepClock();  // one at a time in a thread
  ~StepClock();
  StepClock(const StepClock&) = delete;
  StepClock& operator=(const StepClock&) = delete;
  Total total(StepPart part) const;

 private:
  friend class TimedPart;
  std::array<double, kParts> seconds_{};
  std::array<std::atomic<double>, kParts> flops_{};
  bool running_ = false;
};

// Counts its lifetime. Inside another one it counts nothing: the outermost is the part.
class TimedPart {
 public:
  explicit TimedPart(StepPart part);
  ~TimedPart();
  TimedPart(const TimedPart&) = delete;
  TimedPart& operator=(const TimedPart&) = delete;

 private:
  StepClock* clock_ = nullptr;  // null when it counts nothing
  size_t part_;
  std::chrono::steady_clock::time_point begin_;
};

// Multiplications and additions, to the part that is running, from any of the threads that work for
// it.
void count_flops(double flops);

}  // namespace hadal
