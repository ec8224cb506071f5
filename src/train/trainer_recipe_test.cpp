// What the recipe's phases, averages and stages do to a run.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "io/safetensors.h"
#include "model/pretrained.h"
#include "tests/support/tiny_run.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

TrainRecipe ramp_recipe() {
  TrainRecipe r = tiny_recipe();
  const Phases ramp{{.shape = Phase::Shape::kLinear, .to = 8, .from = 3, .end = 4}};
  r.batch.phases = ramp;
  r.optim.lr_phases = {{.shape = Phase::Shape::kLinear, .to = 0.02, .end = 100, .tokens = true},
                       {.shape = Phase::Shape::kCosine, .to = 0.001, .end = 6, .until = true}};
  r.optim.moments = "bf16";
  r.optim.ema = 0.9;
  return r;
}

std::vector<float> averages(Trainer& trainer) {
  std::vector<float> all;
  for (const Param& p : trainer.model().params().all()) {
    const Out1 average = trainer.ema()->of(p);
    all.insert(all.end(), average.data(), average.data() + average.size());
  }
  return all;
}

TEST(TrainerRecipe, AGrowingBatchReadsEveryRowOnce) {
  Bench bench(ramp_recipe());
  int64_t row = 0;
  for (const int64_t rows : {3, 4, 6, 7, 8, 8}) {  // 3 4.25 5.5 6.75
    const Progress progress = bench.trainer.step();
    EXPECT_EQ(progress.rows, rows);
    row += rows;
    EXPECT_EQ(bench.trainer.state().row, row);
  }
}

TEST(TrainerRecipe, ARunWithAllOfItResumesWithTheSameBits) {
  const fs::path run = scratch_dir();
  Bench straight(ramp_recipe());
  straight.steps(6);
  {
    Bench first(ramp_recipe());
    first.steps(2);  // in the middle of the ramp and of the warm-up
    save_checkpoint(first.trainer, run, {});
  }
  for (const int64_t threads : {1, 3}) {
    const ScopedThreads scope(threads);
    Bench second(ramp_recipe());
    second.trainer.step();  // an average and moments that the checkpoint must replace
    load_checkpoint(second.trainer, run / "checkpoints" / "step-2");
    second.steps(4);
    EXPECT_EQ(straight.trainer.state(), second.trainer.state());
    EXPECT_TRUE(same_weights(straight.model, second.model));
    EXPECT_EQ(averages(straight.trainer), averages(second.trainer));
  }
}

TEST(TrainerRecipe, TheAverageIsOfTheWeightsAfterEachStep) {
  TrainRecipe r = tiny_recipe();
  r.optim.ema = 0.5;
  Bench bench(r);
  const Param* head = bench.model.params().find("lm_head.weight");
  std::vector<double> want(static_cast<size_t>(head->size()));
  for (int t = 1; t <= 5; ++t) {
    bench.trainer.step();
    const double share = std::max(0.5, 10.0 / (9.0 + t));
    for (size_t i = 0; i < want.size(); ++i) want[i] += share * (head->vec().data()[i] - want[i]);
  }
  const Out1 average = bench.trainer.ema()->of(*head);
  EXPECT_TRUE(close(In2(average.data(), {head->rows(), head->cols()}), want, 1e-6));
}

TEST(TrainerRecipe, AveragesAreLoadedFromACheckpointOnRequest) {
  const fs::path run = scratch_dir();
  Bench bench(ramp_recipe());
  bench.steps(3);
  const fs::path folder = save_checkpoint(bench.trainer, run, {});
  Bench other(tiny_recipe());
  load_averages(other.model, folder);
  const Param* head = other.model.params().find("lm_head.weight");
  const Out1 average = bench.trainer.ema()->of(*bench.model.params().find("lm_head.weight"));
  EXPECT_TRUE(same_bits(In2(head->vec().data(), {1, head->size()}),
                        In2(average.data(), {1, head->size()})));
  EXPECT_FALSE(same_weights(bench.model, other.model));
  const fs::path without = scratch_dir();
  save_checkpoint(other.trainer, without, {});
  EXPECT_ERROR(load_averages(other.model, without / "checkpoints" / "step-0"), kUsage,
               "optim.ema is 0");
}

TEST(TrainerRecipe, PhasesOfLossWeightsReachTheLoss) {
  TrainRecipe with = tiny_recipe(), without = tiny_recipe();
  with.mtp.lambda_phases = {{.to = 0, .end = 1}, {.to = 1}};
  without.mtp.lambda = 0;
  // It would reach the module by way of its experts.
  with.balance.sequence_alpha_phases = {{.to = 0}};
  without.balance.sequence_alpha = 0;
  Bench a(with), b(without);
  const auto eh_proj = [](Bench& bench) {
    for (const Param& p : bench.model.params().all()) {
      if (p.name.ends_with("eh_proj.weight")) {
        double sum = 0;
        for (int64_t i = 0; i < p.size(); ++i) sum += std::abs(double(p.gradient[i]));
        return sum;
      }
    }
    return -1.0;
  };
  a.trainer.step(), b.trainer.step();
  EXPECT_EQ(eh_proj(a), 0);
  EXPECT_TRUE(same_weights(a.model, b.model));
  a.trainer.step(), b.trainer.step();
  EXPECT_GT(eh_proj(a), 0);
  EXPECT_EQ(eh_proj(b), 0);
}

// The loss of a part of the row is that of a batch in which nothing else is to be predicted.
TEST(TrainerRecipe, LossByPositionIsThatOfThePart) {
  TrainRecipe r = tiny_recipe();
  r.run.eval_buckets = 5;  // of 12 places: 0-2, 3-4, 5-7, 8-9, 10-11
  r.batch.micro = 3;
  Bench bench(r);
  bench.steps(3);
  const Evaluation whole = bench.trainer.evaluate();
  ASSERT_EQ(whole.loss_by_position.size(), 5u);
  const int64_t begins[] = {0, 3, 5, 8, 10, 12};
  for (size_t part = 0; part < 5; ++part) {
    Batch batch = bench.valid.batch(0, r.data.eval_sequences).batch;
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      const auto place = static_cast<int64_t>(i) % kLength;
      if (place < begins[part] || place >= begins[part + 1]) batch.targets[i] = kIgnored;
    }
    const Losses losses = bench.model.evaluate(batch, {});
    EXPECT_NEAR(whole.loss_by_position[part],
                losses.main.loss_sum / static_cast<double>(losses.main.count), 1e-6)
        << part;
  }
}

// ---- run.init_from

struct Start {
  fs::path folder = scratch_dir();
  Bench bench;
  Start() {
    bench.steps(2);
    save_pretrained(bench.model, folder);
  }
  TrainRecipe recipe(const Json& model = Json::object()) const {
    TrainRecipe r = tiny_recipe();
    r.run.init_from = folder.string();
    r.model = model;
    return r;
  }
};

TEST(InitFrom, TakesConfigAndWeightsOfTheFolder) {
  const Start start;
  const TrainRecipe r = start.recipe();
  Transformer model(recipe_model(r, {}));
  EXPECT_TRUE(load_first_weights(model, r).empty());
  EXPECT_TRUE(same_weights(start.bench.model, model));
  EXPECT_EQ(model.mtp_depth(), 1);
  EXPECT_NE(model.params().all()[0].gradient, nullptr);
}

TEST(InitFrom, TheRecipeMayStretchTheContextAndNoMore) {
  const Start start;
  const Json yarn{{"type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 12}};
  const ModelConfig longer =
      recipe_model(start.recipe({{"max_position_embeddings", 48}, {"rope_scaling", yarn}}), {});
  EXPECT_EQ(longer.max_position_embeddings, 48);
  EXPECT_EQ(longer.rope_scaling.type, "yarn");
  EXPECT_EQ(longer.hidden_size, 32);
  EXPECT_EQ(recipe_model(start.recipe({{"hidden_size", 32}}), {}).hidden_size, 32);
  EXPECT_ERROR(recipe_model(start.recipe({{"hidden_size", 64}}), {}), kUsage,
               "model.hidden_size is 64");
  EXPECT_ERROR(recipe_model(start.recipe({{"config", "x.json"}}), {}), kUsage, "are both given");
}

// transformers 5 writes rope_parameters with rope_theta inside.
TEST(InitFrom, AnotherSpellingOfTheFolderIsReplaced) {
  const Start start;
  const std::string path = (start.folder / "config.json").string();
  Json config = parse_json(read_file(path), path);
  config.erase("rope_scaling");
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 777.0}};
  write_file_atomically(path, config.dump());
  const Json yarn{{"type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 12}};
  const ModelConfig made =
      recipe_model(start.recipe({{"max_position_embeddings", 48}, {"rope_scaling", yarn}}), {});
  EXPECT_EQ(made.rope_theta, 777);
  EXPECT_EQ(made.rope_scaling.type, "yarn");
}

int64_t data_bytes(const SafetensorsFile& file) {
  int64_t end = 0;
  for (const TensorInfo& tensor : file.tensors()) end = std::max(end, tensor.end);
  return end;
}

TEST(InitFrom, NumbersThatAreNoneAreNamed) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Start start;
    const fs::path path = start.folder / "model.safetensors";
    const SafetensorsFile file(path);
    const TensorInfo* info = file.find("model.layers.1.mlp.gate.weight");
    ASSERT_NE(info, nullptr);
    std::string bytes = read_file(path);
    const size_t data = bytes.size() - static_cast<size_t>(data_bytes(file));
    std::memcpy(bytes.data() + data + static_cast<size_t>(info->begin) + 8, &bad, sizeof bad);
    write_file_atomically(path, bytes);
    const TrainRecipe r = start.recipe();
    Transformer model(recipe_model(r, {}));
    EXPECT_ERROR(load_first_weights(model, r), kFormat, "model.layers.1.mlp.gate.weight");
  }
}

TEST(InitFrom, AMissingTensorOrAnotherShapeIsNamed) {
  const Start start;
  const std::string path = (start.folder / "config.json").string();
  Json config = parse_json(read_file(path), path);
  config["moe_intermediate_size"] = 24;
  write_file_atomically(path, config.dump());
  const TrainRecipe r = start.recipe();
  Transformer wider(recipe_model(r, {}));
  EXPECT_ERROR(load_first_weights(wider, r), kShape, "model.layers.1.mlp");
  config["moe_intermediate_size"] = 16;
  config["num_hidden_layers"] = 4;
  config["num_nextn_predict_layers"] = 0;
  write_file_atomically(path, config.dump());
  Transformer deeper(recipe_model(r, {}));
  EXPECT_ERROR(load_first_weights(deeper, r), kFormat, "tensors are missing, the first is");
}

TEST(InitFrom, ModulesThatTheFilesDoNotHoldAreLeftOut) {
  TrainRecipe plain = tiny_recipe();
  plain.model["num_nextn_predict_layers"] = 0;
  Transformer model(recipe_model(plain, {}));
  prepare_training(model.params(), plain);
  const fs::path folder = scratch_dir();
  save_pretrained(model, folder);
  const std::string path = (folder / "config.json").string();
  Json config = parse_json(read_file(path), path);
  config["num_nextn_predict_layers"] = 1;
  write_file_atomically(path, config.dump());
  TrainRecipe r = tiny_recipe();
  r.run.init_from = folder.string();
  r.model = Json::object();
  EXPECT_EQ(recipe_model(r, {}).num_nextn_predict_layers, 0);
}

}  // namespace
}  // namespace hadal
