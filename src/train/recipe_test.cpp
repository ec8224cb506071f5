#include "train/recipe.h"

#include <gtest/gtest.h>

#include <set>

#include "model/transformer.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

TrainRecipe with(std::vector<std::string> sets, std::string_view toml = "") {
  return parse_recipe(toml, "r.toml", sets);
}

TEST(Recipe, ReadsFileThenSets) {
  const TrainRecipe r =
      with({"run.steps=7", "run.out=runs/a b", "optim.lr=1", "model.v_head_dim=3"},
           "[run]\nsteps = 5\nseed = 9\n[data]\ntrain = [\"a.txt\"]\n"
           "[model]\nhidden_size = 64\n");
  EXPECT_EQ(r.run.steps, 7);
  EXPECT_EQ(r.run.seed, 9);
  EXPECT_EQ(r.run.out, "runs/a b");
  EXPECT_EQ(r.optim.lr, 1.0);  // an integer is a number too
  EXPECT_EQ(r.data.train, std::vector<std::string>{"a.txt"});
  EXPECT_EQ(r.model["hidden_size"], 64);
  EXPECT_EQ(r.model["v_head_dim"], 3);
}

TEST(Recipe, UnknownKeysNameTheNearest) {
  EXPECT_ERROR(with({}, "[run]\nstpes = 5\n"), kUsage,
               "r.toml:2: run.stpes: no such key; did you mean run.steps?");
  EXPECT_ERROR(with({"optim.wieght_decay=1"}), kUsage, "did you mean optim.weight_decay?");
  EXPECT_ERROR(with({}, "[model]\nhidden_sise = 5\n"), kUsage, "did you mean model.hidden_size?");
  EXPECT_ERROR(with({}, "[optimizer]\nlr = 5\n"), kUsage, "optimizer: no such key");
}

TEST(Recipe, WrongTypesAndValuesSayWhatWasExpected) {
  EXPECT_ERROR(with({"run.steps=1.5"}), kUsage, "run.steps is 1.5, expected an integer from 1");
  EXPECT_ERROR(with({"run.steps=0"}), kUsage, "run.steps is 0, expected an integer from 1");
  EXPECT_ERROR(with({"optim.lr=fast"}), kUsage, "--set: optim.lr is 'fast', expected a number");
  EXPECT_ERROR(with({"optim.lr=nan"}), kUsage, "expected a number from 0 to 10");
  EXPECT_ERROR(with({"run.precision=fp8"}), kUsage, "expected a string: fp32, bf16");
  EXPECT_ERROR(with({"data.train=a.txt"}), kUsage, "expected a list of strings");
  EXPECT_ERROR(with({"run=3"}), kUsage, "run: no such key");
  EXPECT_ERROR(with({"run.steps"}), kUsage, "expected KEY=VALUE");
  EXPECT_ERROR(with({}, "[run\n"), kUsage, "r.toml:1:");
  EXPECT_ERROR(with({"optim.lr=0.1", "optim.min_lr=0.2"}), kUsage, "at most optim.lr");
  EXPECT_ERROR(with({"batch.sequences=2", "batch.micro=4"}), kUsage, "at most batch.sequences");
}

TEST(Recipe, EveryKeyIsExplainedOnce) {
  const std::string text = explain_recipe(TrainRecipe());
  std::set<std::string_view> seen;
  for (const RecipeKey& key : recipe_keys()) {
    EXPECT_TRUE(seen.insert(key.path).second) << key.path;
    EXPECT_FALSE(key.doc.empty()) << key.path;
    EXPECT_NE(text.find(std::string(key.path) + " = "), std::string::npos) << key.path;
  }
}

TEST(Recipe, ResumeAllowsOnlyWhatDoesNotChangeTheSteps) {
  const TrainRecipe first = with({"run.steps=10"});
  const Json saved = Json::parse(recipe_json(first).dump());
  EXPECT_EQ(resume_obstacle(first, saved), "");
  EXPECT_EQ(resume_obstacle(with({"run.steps=20", "run.threads=1"}), saved), "");
  EXPECT_EQ(resume_obstacle(with({"run.steps=10", "optim.lr=0.5"}), saved), "optim.lr");
  EXPECT_EQ(resume_obstacle(with({"run.steps=10", "model.hidden_size=8"}), saved), "model");
}

TEST(Recipe, GradientTilesAreOfFp8) {
  EXPECT_EQ(with({"run.precision=fp8", "run.fp8_gradient_tiles=128x128"}).run.fp8_gradient_tiles,
            "128x128");
  EXPECT_ERROR(with({"run.fp8_gradient_tiles=128x128"}), kUsage, "needs run.precision = \"fp8\"");
  EXPECT_ERROR(with({"run.precision=fp8", "run.fp8_gradient_tiles=1x64"}), kUsage,
               "1x128, 128x128");
}

TEST(RecipeModel, TheBenchmarkHas45MParameters) {
  const TrainRecipe r = load_recipe(source_dir() / "recipes" / "bench_45m.toml");
  const Transformer model(recipe_model(r, {}));
  EXPECT_EQ(model.params().count(), 45'356'288);
}

TEST(RecipeModel, TheTokenizerFillsInWhatItKnows) {
  const TrainRecipe r = load_recipe(source_dir() / "recipes" / "text_small.toml");
  const ModelConfig config = recipe_model(r, {8192, 0, 1, 2});
  EXPECT_EQ(config.vocab_size, 8192);
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{1});
  EXPECT_EQ(config.q_lora_rank, 0);
  EXPECT_EQ(config.num_nextn_predict_layers, 1);
  EXPECT_ERROR(recipe_model(r, {}), kUsage, "model.vocab_size is missing");
}

TEST(RecipeModel, SizesHaveNoDefaults) {
  TrainRecipe r = load_recipe(source_dir() / "recipes" / "text_small.toml");
  r.model.erase("kv_lora_rank");
  EXPECT_ERROR(recipe_model(r, {8192, 0, 1, 2}), kUsage, "model.kv_lora_rank is missing");
}

}  // namespace
}  // namespace hadal
