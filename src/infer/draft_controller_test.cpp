#include "infer/draft_controller.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

// Steps with a draft among 1,000, when such a step gives `tokens` in `seconds` and a plain one 1 in
// 1.
int64_t drafted_steps(DraftController& controller, int64_t tokens, double seconds) {
  int64_t drafted = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t drafts = controller.next();
    drafted += drafts;
    controller.record(drafts, drafts > 0 ? tokens : 1, drafts > 0 ? seconds : 1);
  }
  return drafted;
}

TEST(draft_controller, drafts_while_it_pays) {
  DraftController pays, loses;
  EXPECT_GT(drafted_steps(pays, 2, 1.5), 970);
  EXPECT_LT(drafted_steps(loses, 2, 2.5), 30);
}

TEST(draft_controller, notices_when_that_changes) {
  DraftController controller;
  drafted_steps(controller, 2, 3);
  EXPECT_GT(drafted_steps(controller, 2, 1.1), 200);
}

}  // namespace
}  // namespace hadal
