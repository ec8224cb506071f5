#include "train/schedule.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(Schedule, Table) {
  struct Row {
    const char* kind;
    int64_t step;
    double expected;
  };
  // lr 1, min_lr 0.1, 4 steps of warm-up, 24 steps, decay over the last 8.
  const Row rows[] = {
      {"constant", 0, 0.25}, {"constant", 3, 1.0},   {"constant", 4, 1.0}, {"constant", 23, 1.0},
      {"cosine", 1, 0.5},    {"cosine", 4, 1.0},     {"cosine", 23, 0.1},  {"wsd", 2, 0.75},
      {"wsd", 4, 1.0},       {"wsd", 15, 1.0},       {"wsd", 19, 0.55},    {"wsd", 23, 0.1},
      {"wsd", 500, 0.1},     {"constant", 500, 1.0},
  };
  for (const Row& row : rows) {
    const Schedule s{row.kind, 1.0, 0.1, 4, 1.0 / 3, 24};
    EXPECT_NEAR(learning_rate(s, row.step), row.expected, 1e-12) << row.kind << " " << row.step;
  }
}

TEST(Schedule, NeverRisesAfterWarmUp) {
  for (const char* kind : {"constant", "cosine", "wsd"}) {
    const Schedule s{kind, 3e-3, 1e-4, 10, 0.3, 100};
    for (int64_t step = 10; step < 110; ++step) {
      EXPECT_LE(learning_rate(s, step + 1), learning_rate(s, step)) << kind << " " << step;
    }
  }
}

TEST(Schedule, UnknownKindIsAnError) {
  const Schedule s{"linear", 1, 0.1, 0, 0.5, 10};
  EXPECT_ERROR(learning_rate(s, 5), kUsage, "expected constant, cosine or wsd");
}

}  // namespace
}  // namespace hadal
