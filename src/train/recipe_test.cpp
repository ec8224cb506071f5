#include "train/recipe.h"

#include <gtest/gtest.h>

#include <set>

#include "model/inspect.h"
#include "model/transformer.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

TrainRecipe with(std::vector<std::string> sets, std::string_view toml = "") {
  return parse_recipe(toml, "r.toml", sets);
}

TrainRecipe shipped(const std::string& name) {
  return load_recipe(source_dir() / "recipes" / (name + ".toml"));
}

ModelConfig shipped_model(const std::string& name) {
  const TrainRecipe r = shipped(name);
  return recipe_model(r, {r.data.tokenizer.ends_with("4k.json") ? 4096 : 8192, 0, 1, 2});
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
  EXPECT_ERROR(with({"run.precision=fp4"}), kUsage, "expected a string: fp32, bf16, fp8");
  EXPECT_ERROR(with({"data.train=a.txt"}), kUsage, "expected a list of strings");
  EXPECT_ERROR(with({"run=3"}), kUsage, "run: no such key");
  EXPECT_ERROR(with({"run.steps"}), kUsage, "expected KEY=VALUE");
  EXPECT_ERROR(with({}, "[run\n"), kUsage, "r.toml:1:");
  EXPECT_ERROR(with({"optim.lr=0.1", "optim.min_lr=0.2"}), kUsage, "at most optim.lr");
  EXPECT_ERROR(with({"batch.sequences=2", "batch.micro=4"}), kUsage, "at most batch.sequences");
}

TEST(Recipe, PhasesComeFromTablesAndSets) {
  const TrainRecipe r = with({"mtp.lambda_phases=[{constant=0.3, tokens=5e3}, {constant=0.1}]"},
                             "[[optim.lr_phases]]\nlinear = 0.5\nsteps = 3\n"
                             "[[optim.lr_phases]]\ncosine = 0.1\nuntil_tokens = 4_000_000\n");
  EXPECT_EQ(phases_json(r.optim.lr_phases).dump(),
            R"([{"linear":0.5,"steps":3},{"cosine":0.1,"until_tokens":4000000}])");
  EXPECT_EQ(phases_json(r.mtp.lambda_phases).dump(),
            R"([{"constant":0.3,"tokens":5000},{"constant":0.1}])");
  EXPECT_NE(explain_recipe(r).find(R"(optim.lr_phases = [{"linear":0.5,"steps":3})"),
            std::string::npos);
  const Json saved = Json::parse(recipe_json(r).dump());
  EXPECT_NO_THROW(check_resume(r, saved, {}));
  const Json without = Json::parse(recipe_json(with({})).dump());
  EXPECT_ERROR(check_resume(with({"optim.lr_phases=[{constant=1}]"}), without, {}), kUsage,
               "has optim.lr_phases = []");
  EXPECT_ERROR(with({}, "[optim]\nlr_phases = [{ linear = 0.5, step = 3 }]\n"), kUsage,
               "r.toml:2: optim.lr_phases[0].step: no such key; did you mean steps?");
  EXPECT_ERROR(with({"balance.gamma_phases=[{constant=2}]"}), kUsage,
               "expected a number from 0 to 1");
  EXPECT_ERROR(with({"optim.lr_phases=[{constant=1, steps=5}, {linear=0, until_steps=5}]"}), kUsage,
               "optim.lr_phases[1] ends at 5 steps but begins at 5");
}

TEST(Recipe, ANumberIsSaidOnce) {
  EXPECT_ERROR(with({"optim.lr_phases=[{constant=1}]", "optim.lr=1"}), kUsage,
               "optim.lr and optim.lr_phases are both given");
  EXPECT_ERROR(with({"batch.phases=[{constant=1}]", "batch.sequences=1"}), kUsage,
               "batch.sequences and batch.phases are both given");
  EXPECT_ERROR(with({"run.tokens=5000", "run.steps=3"}), kUsage, "run.steps and run.tokens");
  EXPECT_EQ(with({"run.tokens=5000", "batch.sequences=2", "data.sequence_length=100"}).run.steps,
            25);
  for (const PhasesInstead& instead : phases_instead()) {
    bool found = false;
    for (const RecipeKey& key : recipe_keys()) found = found || key.path == instead.phases;
    EXPECT_TRUE(found) << instead.phases;
  }
}

TEST(Recipe, AnotherVersionIsRefusedFirst) {
  EXPECT_EQ(with({}, "version = 1\n").version, 1);
  EXPECT_ERROR(with({}, "version = 2\n[run]\nnew_key = 3\n"), kFormat,
               "r.toml:1: version is 2, but this program reads recipes of version 1");
}

TEST(Recipe, Bf16MomentsNeedABetaThatTheyCanFollow) {
  EXPECT_EQ(with({"optim.moments=bf16"}).optim.moments, "bf16");
  EXPECT_ERROR(with({"optim.moments=bf16", "optim.beta2=0.999"}), kUsage, "rounded away");
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
  const auto check = [&](const std::vector<std::string>& sets,
                         const std::vector<std::string>& allowed) {
    check_resume(with(sets), saved, allowed);
  };
  check({"run.steps=10"}, {});
  check({"run.steps=20", "run.threads=1"}, {});
  const std::vector<std::string> faster{"run.steps=10", "optim.lr=0.5"};
  EXPECT_ERROR(check(faster, {}), kUsage, "optim.lr = 0.001, which is 0.5 now");
  EXPECT_ERROR(check(faster, {"optim.eps"}), kUsage, "--allow optim.lr");
  check(faster, {"optim.eps", "optim.lr"});
  EXPECT_ERROR(check(faster, {"optim.rl"}), kUsage, "--allow optim.rl: neither");
  EXPECT_ERROR(check({"model.hidden_size=8"}, {"optim.lr"}), kUsage,
               "knows no model.hidden_size, which is 8 now");
  check({"model.hidden_size=8"}, {"model.hidden_size"});
  check({"model.hidden_size=8"}, {"model"});
}

// Keys come and go with versions: neither is taken in silence.
TEST(Recipe, ARecipeOfAnotherVersionIsSeen) {
  const TrainRecipe now = with({});
  Json saved = Json::parse(recipe_json(now).dump());
  saved["optim.warp"] = 9;
  saved.erase("optim.clip");
  const std::vector<RecipeChange> want{{"optim.clip", "", "1.0"}, {"optim.warp", "9", ""}};
  EXPECT_EQ(recipe_changes(now, saved), want);
  EXPECT_ERROR(check_resume(now, saved, std::vector<std::string>{"optim.clip"}), kUsage,
               "has optim.warp = 9, which is not there now");
  check_resume(now, saved, std::vector<std::string>{"optim.clip", "optim.warp"});
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

// Every recipe makes a model; the vocabulary is the one its tokenizer's name tells.
TEST(RecipeModel, EveryShippedRecipeMakesAModel) {
  int found = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() / "recipes")) {
    if (entry.path().extension() != ".toml") continue;
    const TrainRecipe r = load_recipe(entry.path());
    if (!r.run.init_from.empty()) continue;
    EXPECT_GT(inspect_model(shipped_model(entry.path().stem())).active, 0) << entry.path();
    ++found;
  }
  EXPECT_GE(found, 12);
}

TEST(RecipeModel, NanoHasAtMostTwoMillionActiveParameters) {
  const Inspection nano = inspect_model(shipped_model("v3_nano"));
  EXPECT_LE(nano.active + nano.mtp_active, 2'000'000);
}

TEST(RecipeModel, KindsOfAttentionAreComparedAtEqualParameters) {
  const Inspection mla = inspect_model(shipped_model("mla_nano"));
  for (const char* name : {"mha_nano", "gqa_nano", "mqa_nano"}) {
    const Inspection other = inspect_model(shipped_model(name));
    EXPECT_NEAR(double(other.parts.total()), double(mla.parts.total()),
                0.02 * double(mla.parts.total()))
        << name;
    EXPECT_NEAR(double(other.active), double(mla.active), 0.02 * double(mla.active)) << name;
    // Nothing else differs.
    TrainRecipe a = shipped(name), b = shipped("mla_nano");
    a.model = b.model = Json::object();
    EXPECT_EQ(recipe_json(a), recipe_json(b)) << name;
  }
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
