#include "core/step_clock.h"

#include "core/error.h"

namespace hadal {
namespace {

StepClock*& current() {
  static thread_local StepClock* clock = nullptr;
  return clock;
}

}  // namespace

const char* part_name(StepPart part) {
  constexpr std::array<const char*, kParts> kNames{"projections", "attention", "experts", "head",
                                                   "optimizer"};
  return kNames.at(static_cast<size_t>(part));
}

StepClock::StepClock() {
  HADAL_CHECK(current() == nullptr, kInternal, "this thread has a StepClock already");
  current() = this;
}

StepClock::~StepClock() {
  current() = nullptr;
}

TimedPart::TimedPart(StepPart part) {
  StepClock* clock = current();
  if (clock == nullptr || clock->running_ != nullptr) return;
  clock_ = clock;
  clock->running_ = &clock->totals_[static_cast<size_t>(part)];
  begin_ = std::chrono::steady_clock::now();
}

TimedPart::~TimedPart() {
  if (clock_ == nullptr) return;
  const auto elapsed = std::chrono::steady_clock::now() - begin_;
  clock_->running_->seconds += std::chrono::duration<double>(elapsed).count();
  clock_->running_ = nullptr;
}

void count_flops(double flops) {
  StepClock* clock = current();
  if (clock != nullptr && clock->running_ != nullptr) clock->running_->flops += flops;
}

}  // namespace hadal
