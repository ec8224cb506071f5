#include "core/step_clock.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/error.h"

namespace hadal {
namespace {

using namespace std::chrono_literals;

TEST(StepClock, the_outermost_part_gets_time_and_arithmetic) {
  StepClock clock;
  count_flops(1e9);  // in no part
  {
    const TimedPart head(StepPart::kHead);
    count_flops(3);
    const TimedPart inner(StepPart::kProjections);
    count_flops(4);
    std::this_thread::sleep_for(2ms);
  }
  {
    const TimedPart projections(StepPart::kProjections);
    count_flops(5);
  }
  EXPECT_EQ(clock.total(StepPart::kHead).flops, 7);
  EXPECT_GE(clock.total(StepPart::kHead).seconds, 0.002);
  EXPECT_EQ(clock.total(StepPart::kProjections).flops, 5);
  EXPECT_LT(clock.total(StepPart::kProjections).seconds, 0.002);
  EXPECT_EQ(clock.total(StepPart::kOptimizer).seconds, 0);
}

TEST(StepClock, nothing_is_counted_outside_of_its_life_or_between_parts) {
  {
    const TimedPart before(StepPart::kHead);
    StepClock clock;
    std::thread other([] {
      const TimedPart timed(StepPart::kHead);
      count_flops(1);
    });
    other.join();
    count_flops(1);
    EXPECT_EQ(clock.total(StepPart::kHead).flops, 0);
    EXPECT_THROW(StepClock{}, Error);
  }
  const StepClock again;
  EXPECT_EQ(again.total(StepPart::kHead).seconds, 0);
}

TEST(StepClock, every_part_has_a_name) {
  EXPECT_STREQ(part_name(StepPart::kProjections), "projections");
  EXPECT_STREQ(part_name(StepPart::kOptimizer), "optimizer");
}

}  // namespace
}  // namespace hadal
