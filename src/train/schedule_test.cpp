#include "train/schedule.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"
#include "train/run_schedule.h"

namespace hadal {
namespace {

constexpr int64_t kT = 1'000'000'000'000;  // "T" of tokens

Phases phases(std::string_view json) {
  return parse_phases(Json::parse(json), "x", 0, 1e6);
}

TEST(Schedule, ShortKeysTable) {
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
    TrainRecipe r;
    r.run.steps = 24;
    r.optim.schedule = row.kind;
    r.optim.lr = 1.0, r.optim.min_lr = 0.1, r.optim.warmup_steps = 4;
    r.optim.decay_share = 1.0 / 3;
    EXPECT_NEAR(RunSchedule(r).at(row.step).lr, row.expected, 1e-12) << row.kind << " " << row.step;
  }
}

TEST(Schedule, ShortKeysNeverRiseAfterWarmUpWhateverTheirLengths) {
  for (const char* kind : {"constant", "cosine", "wsd"}) {
    for (const int64_t warmup : {0, 1, 10, 99, 100, 300}) {
      for (const double share : {0.0, 0.3, 1.0}) {
        TrainRecipe r;
        r.run.steps = 100;
        r.optim.schedule = kind;
        r.optim.warmup_steps = warmup;
        r.optim.decay_share = share;
        const RunSchedule schedule(r);
        EXPECT_LE(schedule.at(0).lr, r.optim.lr);
        for (int64_t step = std::max<int64_t>(warmup - 1, 0); step < 110; ++step) {
          EXPECT_LE(schedule.at(step + 1).lr, schedule.at(step).lr)
              << kind << " " << step << " of " << warmup << ", " << share;
        }
      }
    }
  }
}

TEST(Schedule, GammaRestsInTheLastShareOfTheSteps) {
  TrainRecipe r;
  r.run.steps = 10;
  r.balance.gamma = 0.5;
  r.balance.freeze_share = 0.25;
  for (int64_t step = 0; step < 12; ++step) {
    EXPECT_EQ(RunSchedule(r).at(step).gamma, step < 8 ? 0.5 : 0.0) << step;
  }
  r.balance.freeze_share = 1;
  EXPECT_EQ(RunSchedule(r).at(0).gamma, 0);
}

// The V3 report, 4.2, as it stands there.
constexpr const char* kPublished = R"([run]
tokens = 14_800_000_000_000
[data]
sequence_length = 4096
[batch]
phases = [{ linear = 15360, from = 3072, tokens = 469e9 }, { constant = 15360 }]
[optim]
lr_phases = [
  { linear = 2.2e-4, steps = 2000 },
  { constant = 2.2e-4, until_tokens = 10e12 },
  { cosine = 2.2e-5, tokens = 4.3e12 },
  { constant = 2.2e-5, tokens = 333e9 },
  { constant = 7.3e-6, tokens = 167e9 },
]
[balance]
gamma_phases = [{ constant = 0.001, tokens = 14.3e12 }, { constant = 0 }]
sequence_alpha = 1e-4
[mtp]
lambda_phases = [{ constant = 0.3, tokens = 10e12 }, { constant = 0.1 }]
)";

TEST(Schedule, ThePublishedOneIsWrittenAsItIs) {
  const TrainRecipe r = parse_recipe(kPublished, "published");
  const RunSchedule schedule(r);
  EXPECT_GE(schedule.tokens_before(r.run.steps), 148 * kT / 10);
  EXPECT_LT(schedule.tokens_before(r.run.steps - 1), 148 * kT / 10);

  EXPECT_EQ(schedule.at(0).rows, 3072);
  EXPECT_NEAR(double(schedule.at(schedule.steps_for(469'000'000'000 / 2)).rows), 9216, 4);
  EXPECT_NEAR(double(schedule.at(schedule.steps_for(468'900'000'000)).rows), 15357, 3);
  EXPECT_EQ(schedule.at(schedule.steps_for(469'000'000'000)).rows, 15360);
  EXPECT_EQ(schedule.at(r.run.steps - 1).rows, 15360);

  EXPECT_NEAR(schedule.at(0).lr, 2.2e-4 / 2000, 1e-18);
  EXPECT_EQ(schedule.at(1999).lr, 2.2e-4);
  const auto lr_at = [&](double t) {
    return schedule.at(schedule.steps_for(int64_t(t * double(kT)))).lr;
  };
  EXPECT_EQ(lr_at(9.99), 2.2e-4);
  EXPECT_NEAR(lr_at(12.15), (2.2e-4 + 2.2e-5) / 2, 1e-8);
  EXPECT_LT(lr_at(13), lr_at(12.9));
  EXPECT_NEAR(lr_at(14.299), 2.2e-5, 1e-9);
  EXPECT_EQ(lr_at(14.301), 2.2e-5);
  EXPECT_EQ(lr_at(14.632), 2.2e-5);
  EXPECT_EQ(lr_at(14.634), 7.3e-6);
  EXPECT_EQ(schedule.at(r.run.steps - 1).lr, 7.3e-6);

  const auto at = [&](double t) { return schedule.at(schedule.steps_for(int64_t(t * 1e12))); };
  EXPECT_EQ(at(14.2).gamma, 0.001);
  EXPECT_EQ(at(14.31).gamma, 0);
  EXPECT_EQ(at(9.9).lambda, 0.3);
  EXPECT_EQ(at(10.1).lambda, 0.1);
  EXPECT_EQ(at(3).sequence_alpha, 1e-4);
}

TEST(Rows, StepsAndTokensGoTogether) {
  const Rows rows(phases(R"([{"linear": 9, "from": 2, "steps": 10}, {"constant": 4, "tokens": 50},
                             {"linear": 1, "until_tokens": 2000}])"),
                  5);
  int64_t tokens = 0;
  for (int64_t step = 0; step < 400; ++step) {
    EXPECT_EQ(rows.before(step), (Moment{step, tokens}));
    EXPECT_EQ(rows.reached(tokens), (Moment{step, tokens}));
    EXPECT_EQ(rows.reached(tokens + 1).step, step + 1);
    tokens += rows.of(step) * 5;
  }
  EXPECT_EQ(rows.of(0), 2);
  EXPECT_EQ(rows.of(5), 6);  // 5.5
  EXPECT_EQ(rows.of(10), 4);
  EXPECT_EQ(rows.of(399), 1);
}

TEST(Curve, PhasesOfStepsAndTokensMix) {
  const Rows rows(2, 5);  // 10 tokens a step
  const Curve curve(phases(R"([{"linear": 1, "steps": 2}, {"cosine": 0.5, "tokens": 40},
                               {"linear": 2, "from": 1, "until_steps": 8}])"),
                    rows, "key");
  const double want[] = {0.5,
                         1,
                         0.5 + 0.25 * (1 + std::sqrt(0.5)),
                         0.75,
                         0.5 + 0.25 * (1 - std::sqrt(0.5)),
                         0.5,
                         1.5,
                         2,
                         2,
                         2};
  for (int64_t step = 0; step < 10; ++step) {
    EXPECT_NEAR(curve.at(rows.before(step), rows.before(step + 1)), want[step], 1e-12) << step;
  }
}

TEST(Curve, AnEndBeforeTheBeginningIsAnError) {
  const Rows rows(2, 5);
  EXPECT_ERROR(
      Curve(phases(R"([{"constant": 1, "steps": 20}, {"linear": 0, "until_tokens": 150}])"), rows,
            "optim.lr_phases"),
      kUsage, "optim.lr_phases[1] ends at 150 tokens but begins at 200");
  EXPECT_ERROR(Rows(phases(R"([{"linear": 2, "from": 1, "tokens": 1e14}])"), 1), kUsage,
               "batch.phases[0] changes the batch for more than");
  EXPECT_ERROR(Rows(1000, 1 << 20).before(int64_t{1} << 50), kUsage, "lies beyond");
}

TEST(Phases, GoToJsonAndBack) {
  const char* text = R"([{"linear":0.5,"from":0.25,"until_steps":3},{"constant":0.5,"tokens":7},)"
                     R"({"cosine":0.0,"steps":2},{"constant":1.0}])";
  EXPECT_EQ(phases_json(phases(text)).dump(), text);
}

TEST(Phases, SayWhatIsWrong) {
  EXPECT_ERROR(phases("3"), kUsage, "x is 3, expected a list of phases");
  EXPECT_ERROR(phases("[3]"), kUsage, "x[0] is 3, expected a table");
  EXPECT_ERROR(phases(R"([{"constant": 1, "stesp": 4}])"), kUsage,
               "x[0].stesp: no such key; did you mean steps?");
  EXPECT_ERROR(phases(R"([{"steps": 4}])"), kUsage, "x[0] has 0 shapes");
  EXPECT_ERROR(phases(R"([{"linear": 1, "cosine": 1, "steps": 4}])"), kUsage, "x[0] has 2 shapes");
  EXPECT_ERROR(phases(R"([{"linear": 1, "steps": 4, "tokens": 4}])"), kUsage, "x[0] has 2 ends");
  EXPECT_ERROR(phases(R"([{"linear": 1}])"), kUsage, "x[0] has no end");
  EXPECT_ERROR(phases(R"([{"constant": 1}, {"constant": 1}])"), kUsage, "x[0] has no end");
  EXPECT_ERROR(phases(R"([{"constant": 1, "from": 1}])"), kUsage, "x[0].from");
  EXPECT_ERROR(phases(R"([{"constant": -1}])"), kUsage,
               "x[0].constant is -1, expected a number from 0 to");
  EXPECT_ERROR(phases(R"([{"constant": 1, "steps": 1.5}])"), kUsage,
               "x[0].steps is 1.5, expected a whole number from 1");
  EXPECT_ERROR(phases(R"([{"constant": "a"}])"), kUsage, "expected a number");
}

}  // namespace
}  // namespace hadal
