#include "train/ablation.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

AblationPlan plan_of(const std::string& text) {
  const fs::path path = scratch_dir() / "question.toml";
  write_file_atomically(path, text);
  return load_plan(path);
}

constexpr const char* kTwo =
    "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\nset = [\"x=1\"]\n";

TEST(Ablation, ReadsAPlan) {
  const AblationPlan plan =
      plan_of(str("question = \"Q?\"\nbase = \"base.toml\"\nseeds = [4, 5]\n"
                  "slice_steps = 7\nset = [\"run.steps=9\"]\n",
                  kTwo));
  EXPECT_EQ(plan.name, "question");
  EXPECT_EQ(plan.variants[0].base.filename(), "base.toml");
  EXPECT_EQ(plan.seeds, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(plan.slice_steps, 7);
  EXPECT_FALSE(plan.any_parameters);
  ASSERT_EQ(plan.variants.size(), 2u);
  EXPECT_EQ(plan.variants[1].sets, std::vector<std::string>{"x=1"});
}

TEST(Ablation, AVariantMayHaveARecipeOfItsOwn) {
  const AblationPlan plan =
      plan_of(str("base = \"x.toml\"\n", kTwo, "[[variant]]\nname = \"c\"\nbase = \"y.toml\"\n"));
  EXPECT_EQ(plan.variants[0].base.filename(), "x.toml");
  EXPECT_EQ(plan.variants[2].base.filename(), "y.toml");
}

TEST(Ablation, AWrongPlanIsNamed) {
  const std::string base = "base = \"b.toml\"\n";
  EXPECT_ERROR(plan_of(kTwo), kUsage, "base is missing");
  EXPECT_ERROR(plan_of(base), kUsage, "at least two [[variant]]s");
  EXPECT_ERROR(plan_of(base + "steps = 4\n" + kTwo), kUsage, "no such key: steps");
  EXPECT_ERROR(plan_of(base + "seeds = [1, 1]\n" + kTwo), kUsage, "one twice");
  EXPECT_ERROR(plan_of(base + "seeds = [\"x\"]\n" + kTwo), kUsage, "not a list of integers");
  EXPECT_ERROR(plan_of(base + "slice_steps = 0\n" + kTwo), kUsage, "slice_steps is 0");
  EXPECT_ERROR(plan_of(base + "parameters = \"same\"\n" + kTwo), kUsage, "expected equal or any");
  EXPECT_ERROR(plan_of(base + kTwo + kTwo), kUsage, "variant a is there twice");
  EXPECT_ERROR(plan_of(base + "[[variant]]\nname = \"../a\"\n" + kTwo), kUsage, "letters, digits");
  EXPECT_ERROR(plan_of("base = [\n"), kUsage, "question.toml:");
}

TEST(Ablation, AnEvaluationNamesItsVariants) {
  const std::string plan = str("base = \"b.toml\"\n", kTwo, "[[evaluate]]\nname = \"long\"\n");
  EXPECT_TRUE(plan_of(str("base = \"b.toml\"\n", kTwo)).evaluations.empty());
  EXPECT_EQ(plan_of(plan).evaluations[0].variants, (std::vector<size_t>{0, 1}));
  const AblationPlan one = plan_of(plan + "variants = [\"b\"]\nset = [\"y=2\"]\n");
  EXPECT_EQ(one.evaluations[0].name, "long");
  EXPECT_EQ(one.evaluations[0].variants, std::vector<size_t>{1});
  EXPECT_EQ(one.evaluations[0].sets, std::vector<std::string>{"y=2"});
  EXPECT_ERROR(plan_of(plan + "variants = [\"c\"]\n"), kUsage, "no such variant: c");
  EXPECT_ERROR(plan_of(plan + "variants = []\n"), kUsage, "variants names none");
  EXPECT_ERROR(plan_of(plan + "steps = 1\n"), kUsage, "no such key: steps");
  EXPECT_ERROR(plan_of(str("evaluate = 1\nbase = \"b.toml\"\n", kTwo)), kUsage, "[[evaluate]]");
}

AblationRow row_of(double mean, double p, int64_t pairs = 3) {
  AblationRow row;
  row.losses = {1};
  row.test = {pairs, mean, 0.1, p};
  return row;
}

TEST(Ablation, VerdictsStayOutOfTheNoise) {
  std::vector<AblationRow> rows{row_of(0, 1), row_of(-0.1, 0.01), row_of(0.1, 0.015),
                                row_of(-0.1, 0.04)};
  judge(rows);
  EXPECT_EQ(rows[0].verdict, "compared with");
  EXPECT_EQ(rows[1].verdict, "better");  // 3 x 0.01
  EXPECT_EQ(rows[2].verdict, "worse");   // 2 x 0.015
  EXPECT_EQ(rows[3].verdict, "better");
  EXPECT_DOUBLE_EQ(rows[1].p, 0.03);
  EXPECT_DOUBLE_EQ(rows[2].p, 0.03);
  // A comparison that fails takes all with a larger p along.
  rows = {row_of(0, 1), row_of(-0.1, 0.02), row_of(0.1, 0.021), row_of(-0.1, 0.04)};
  judge(rows);
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(rows[i].verdict, "no difference") << i;
  rows = {row_of(0, 1), row_of(-5, 1, 1), row_of(0, 1, 0)};
  judge(rows);
  EXPECT_EQ(rows[1].verdict, "one seed decides nothing");
  EXPECT_EQ(rows[2].verdict, "not complete");
}

}  // namespace
}  // namespace hadal
