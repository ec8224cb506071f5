#include "infer/draft_controller.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

struct Work {
  int64_t drafted = 0, tokens = 0;
  double seconds = 0;
};

// So many steps, when one with a draft gives `tokens` in `seconds` and a plain one 1 in 1.
Work run(DraftController& controller, int64_t steps, double tokens, double seconds) {
  Work work;
  double owed = 0;
  for (int64_t i = 0; i < steps; ++i) {
    const int64_t drafts = controller.next();
    owed += drafts > 0 ? tokens : 1;
    const auto fresh = static_cast<int64_t>(owed);
    owed -= double(fresh);
    const double time = drafts > 0 ? seconds : 1;
    controller.record(drafts, fresh, time);
    work.drafted += drafts;
    work.tokens += fresh;
    work.seconds += time;
  }
  return work;
}

TEST(draft_controller, drafts_while_it_pays) {
  DraftController pays;
  EXPECT_GT(run(pays, 1000, 1.8, 1.5).drafted, 970);
  EXPECT_TRUE(pays.hopeful());
}

TEST(draft_controller, losing_drafts_cost_next_to_nothing) {
  for (const double seconds : {1.9, 2.5, 8.0}) {
    DraftController loses;
    const Work work = run(loses, 100, 1.5, seconds);
    EXPECT_LE(work.drafted, 2) << seconds;
    EXPECT_FALSE(loses.hopeful());
    EXPECT_LT(run(loses, 10'000, 1.5, seconds).drafted, 12) << seconds;
  }
}

TEST(draft_controller, near_the_border_what_is_lost_is_small) {
  DraftController loses;
  const Work work = run(loses, 1000, 1.3, 1.4);
  EXPECT_GT(double(work.tokens) / work.seconds, 0.98);
}

TEST(draft_controller, one_slow_step_decides_nothing) {
  DraftController controller;
  run(controller, 20, 1.8, 1.3);
  controller.record(1, 1, 500);
  EXPECT_EQ(controller.next(), 1);
  EXPECT_GT(run(controller, 200, 1.8, 1.3).drafted, 190);
}

TEST(draft_controller, notices_when_that_changes) {
  DraftController controller;
  run(controller, 1000, 2, 3);
  EXPECT_GT(run(controller, 3000, 2, 1.1).drafted, 1500);
  EXPECT_LT(run(controller, 3000, 1, 1.5).drafted, 200);
}

TEST(draft_controllers, what_does_not_pay_for_few_is_not_tried_for_many) {
  DraftControllers all;
  EXPECT_TRUE(all.hopeful());
  for (int i = 0; i < 10; ++i) {
    const int64_t drafts = all.next(4);
    all.record(4, drafts, drafts > 0 ? 6 : 4, drafts > 0 ? 5.0 : 1.0);
  }
  EXPECT_TRUE(all.hopeful()) << "one text alone may draft";
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(all.next(8), 0);
    all.record(8, 0, 8, 1);
  }
  for (int i = 0; i < 10; ++i) all.record(1, all.next(1), 1, all.next(1) > 0 ? 3.0 : 1.0);
  EXPECT_FALSE(all.hopeful());
}

}  // namespace
}  // namespace hadal
