#include "core/step_clock.h"

#include "core/error.h"

namespace hadal {
namespace {

StepClock*& current() {
  // NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): a thread's own
  static thread_local StepClock* clock = nullptr;
  return clock;
}

// Where the arithmetic of the running part is counted; null between parts.
std::atomic<std::atomic<double>*>& running_flops() {
  static std::atomic<std::atomic<double>*> flops{nullptr};
  return flops;
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

StepClock::Total StepClock::total(StepPart part) const {
  const auto i = static_cast<size_t>(part);
  return {seconds_[i], flops_[i]};
}

TimedPart::TimedPart(StepPart part) : part_(static_cast<size_t>(part)) {
  StepClock* clock = current();
  if (clock == nullptr || clock->running_) return;
  clock_ = clock;
  clock->running_ = true;
  running_flops() = &clock->flops_[part_];
  begin_ = std::chrono::steady_clock::now();
}

TimedPart::~TimedPart() {
  if (clock_ == nullptr) return;
  const auto elapsed = std::chrono::steady_clock::now() - begin_;
  clock_->seconds_[part_] += std::chrono::duration<double>(elapsed).count();
  clock_->running_ = false;
  running_flops() = nullptr;
}

void count_flops(double flops) {
  std::atomic<double>* running = running_flops();
  if (running != nullptr) *running += flops;
}

}  // namespace hadal
