#include "train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "tests/support/testing.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

constexpr int64_t kVocab = 40;
constexpr int64_t kLength = 12;

// Two layers, one of them with experts in groups, one MTP module.
TrainRecipe tiny_recipe() {
  return parse_recipe(R"([run]
steps = 6
keep = 2
[data]
sequence_length = 12
eval_sequences = 4
[batch]
sequences = 8
micro = 2
[optim]
lr = 1e-2
warmup_steps = 2
init_std = 0.1
[balance]
gamma = 0.01
[model]
vocab_size = 40
hidden_size = 32
intermediate_size = 48
moe_intermediate_size = 16
num_hidden_layers = 2
num_attention_heads = 2
q_lora_rank = 0
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 4
v_head_dim = 8
n_routed_experts = 8
n_shared_experts = 1
num_experts_per_tok = 2
n_group = 4
topk_group = 2
first_k_dense_replace = 1
num_nextn_predict_layers = 1
)",
                      "tiny");
}

// A language with a rule: each token is followed by the one 3 on, most of the time.
TokenDocuments corpus(uint64_t stream) {
  TokenDocuments documents;
  Rng rng(8, stream);
  for (int d = 0; d < 40; ++d) {
    std::vector<int32_t> ids{static_cast<int32_t>(rng.below(kVocab))};
    while (ids.size() < 25) {
      const bool odd = rng.uniform() < 0.1;
      ids.push_back(static_cast<int32_t>(odd ? rng.below(kVocab) : (ids.back() + 3) % kVocab));
    }
    documents.add(ids);
  }
  return documents;
}

struct Bench {
  TrainRecipe recipe;
  Transformer model;
  TokenSource train, valid;
  Trainer trainer;

  explicit Bench(const TrainRecipe& r = tiny_recipe())
      : recipe(r),
        model(recipe_model(r, {})),
        train(corpus(1), {kLength, 1, 7, true}),
        valid(corpus(2), {kLength, 1, 7, false}),
        trainer(allocated(model, r), recipe, train, &valid) {}

  static Transformer& allocated(Transformer& m, const TrainRecipe& r) {
    prepare_training(m.params(), r);
    return m;
  }
  void steps(int n) {
    for (int i = 0; i < n; ++i) trainer.step();
  }
};

testing::AssertionResult same_weights(const Transformer& a, const Transformer& b) {
  for (size_t i = 0; i < a.params().all().size(); ++i) {
    const Param &p = a.params().all()[i], &q = b.params().all()[i];
    if (std::memcmp(p.value, q.value, static_cast<size_t>(p.size()) * sizeof(float)) != 0) {
      return testing::AssertionFailure() << p.name << " differs";
    }
  }
  return testing::AssertionSuccess();
}

TEST(Trainer, LossFallsAndHeldOutTextAgrees) {
  TrainRecipe r = tiny_recipe();
  r.run.steps = 60;
  Bench bench(r);
  const Evaluation before = bench.trainer.evaluate();
  EXPECT_NEAR(before.loss, std::log(double(kVocab)), 0.5);
  bench.steps(60);
  const Evaluation after = bench.trainer.evaluate();
  EXPECT_LT(after.loss, 0.5 * before.loss);
  EXPECT_LT(after.mtp_loss[0], 0.7 * before.mtp_loss[0]);
  EXPECT_GT(after.acceptance, before.acceptance);
  EXPECT_EQ(after.violations.size(), 2u);  // one MoE layer, one MTP block
  EXPECT_NEAR(after.bits_per_byte, after.loss / std::log(2.0), 1e-9);  // one byte a token
}

TEST(Trainer, AnyNumberOfThreadsGivesTheSameBits) {
  const auto run = [](int64_t threads, Bench& bench) {
    const ScopedThreads scope(threads);
    bench.steps(3);
  };
  Bench one;
  run(1, one);
  for (int64_t n : {2, 3}) {
    Bench other;
    run(n, other);
    EXPECT_TRUE(same_weights(one.model, other.model)) << n << " threads";
  }
}

TEST(Trainer, MicroBatchesGiveTheGradientOfTheWholeBatch) {
  TrainRecipe whole_recipe = tiny_recipe();
  whole_recipe.batch.micro = 0;
  Bench parts, whole(whole_recipe);
  const Progress a = parts.trainer.step(), b = whole.trainer.step();
  EXPECT_NEAR(a.loss, b.loss, 1e-6);
  EXPECT_EQ(parts.trainer.last_loads()[0].counts, whole.trainer.last_loads()[0].counts);
  for (size_t i = 0; i < parts.model.params().all().size(); ++i) {
    const Param& p = parts.model.params().all()[i];
    const Param& q = whole.model.params().all()[i];
    if (p.gradient == nullptr) continue;
    double error = 0, size = 0;
    for (int64_t j = 0; j < p.size(); ++j) {
      error += std::pow(double(p.gradient[j]) - double(q.gradient[j]), 2);
      size += std::pow(double(q.gradient[j]), 2);
    }
    EXPECT_LE(std::sqrt(error), 2e-5 * std::sqrt(size) + 1e-9) << p.name;
  }
}

// Rounding of products, and the experts that it makes a token choose, are noise of the gradient: a
// run learns as much with it. Measured on all families of kernels: steps differ by up to 3.3%, the
// loss on held-out text by up to 0.6%, that of the module by 2%.
TEST(Trainer, Bf16LearnsWhatFp32Learns) {
  TrainRecipe r = tiny_recipe();
  r.run.steps = 30;
  Bench fp32(r);
  r.run.precision = "bf16";
  Bench bf16(r);
  const double before = fp32.trainer.evaluate().loss;
  bool differed = false;
  for (int step = 0; step < 30; ++step) {
    const Progress a = fp32.trainer.step(), b = bf16.trainer.step();
    EXPECT_NEAR(b.loss, a.loss, 0.08 * a.loss) << "step " << step;
    differed = differed || b.loss != a.loss;
  }
  EXPECT_TRUE(differed);
  const Evaluation a = fp32.trainer.evaluate(), b = bf16.trainer.evaluate();
  EXPECT_LT(a.loss, 0.8 * before);
  EXPECT_NEAR(b.loss, a.loss, 0.03 * a.loss);
  EXPECT_NEAR(b.mtp_loss[0], a.mtp_loss[0], 0.05 * a.mtp_loss[0]);
}

// Steps that together stay below half a unit of BF16: a weight kept in BF16 would be where it
// began.
TEST(Trainer, Bf16StepsSmallerThanItsUnitAreNotLost) {
  TrainRecipe r = tiny_recipe();
  r.optim.lr = 5e-7;
  r.optim.min_lr = 0;
  r.run.steps = 10;
  Bench start(r), fp32(r);
  r.run.precision = "bf16";
  Bench bf16(r);
  fp32.steps(10);
  bf16.steps(10);
  int64_t all = 0, moved = 0, below_unit = 0;
  double error = 0, norm = 0;
  for (size_t i = 0; i < start.model.params().all().size(); ++i) {
    const Param& p = start.model.params().all()[i];
    if (p.gradient == nullptr) continue;
    const float* at = bf16.model.params().all()[i].vec().data();
    const float* fp32_at = fp32.model.params().all()[i].vec().data();
    for (int64_t j = 0; j < p.size(); ++j) {
      const double w = p.vec().data()[j], step = at[j] - w, fp32_step = fp32_at[j] - w;
      ++all;
      if (std::abs(step) < std::abs(w) / 512) {
        ++below_unit;
        moved += step != 0 ? 1 : 0;
      }
      error += (step - fp32_step) * (step - fp32_step);
      norm += fp32_step * fp32_step;
    }
  }
  EXPECT_GT(double(below_unit), 0.99 * double(all));
  EXPECT_GT(double(moved), 0.99 * double(below_unit));
  EXPECT_LT(std::sqrt(error / norm), 0.1);
}

TrainRecipe fp8_recipe() {
  TrainRecipe r = tiny_recipe();
  r.run.precision = "fp8";
  return r;
}

TEST(Trainer, Fp8LearnsAndResumesWithTheSameBits) {
  TrainRecipe r = fp8_recipe();
  r.run.steps = 40;
  Bench straight(r), first(r), second(r);
  const double before = straight.trainer.evaluate().loss;
  straight.steps(40);
  EXPECT_LT(straight.trainer.evaluate().loss, 0.6 * before);
  const fs::path run = scratch_dir();
  first.steps(20);
  load_checkpoint(second.trainer, save_checkpoint(first.trainer, run, {}));
  second.steps(20);
  EXPECT_TRUE(same_weights(straight.model, second.model));
}

// Of a weight, NaN or infinity: every number that reads the block becomes NaN.
TEST(Trainer, Fp8StepsThatAreNotFiniteLeaveNoTrace) {
  for (float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    Bench bench(fp8_recipe());
    bench.steps(1);
    Param* weight = bench.model.params().find("model.layers.1.self_attn.o_proj.weight");
    float& entry = weight->vec_mut().data()[7];
    const float saved = entry;
    entry = bad;
    Param* norm = bench.model.params().find("model.norm.weight");
    const float before = norm->vec().data()[0];
    EXPECT_FALSE(bench.trainer.step().applied);
    EXPECT_EQ(norm->vec().data()[0], before);
    entry = saved;
    EXPECT_TRUE(bench.trainer.step().applied);
  }
}

TEST(Trainer, Fp8GradientTilesAreARecipesChoice) {
  TrainRecipe r = fp8_recipe();
  Bench rows(r);
  r.run.fp8_gradient_tiles = "128x128";
  Bench blocks(r);
  rows.steps(2);
  blocks.steps(2);
  EXPECT_FALSE(same_weights(rows.model, blocks.model));
}

TEST(Trainer, ResumedRunGivesTheSameBits) {
  const fs::path run = scratch_dir();
  Bench straight;
  straight.steps(6);
  {
    Bench first;
    first.steps(3);
    save_checkpoint(first.trainer, run, {});
  }
  TrainRecipe r = tiny_recipe();
  r.run.seed = 1;
  Bench second(r);
  second.model.params().initialise(99, 0.3);  // all of it must come from the checkpoint
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(run, passed_over);
  ASSERT_TRUE(newest.has_value());
  load_checkpoint(second.trainer, *newest);
  EXPECT_EQ(second.trainer.state().step, 3);
  second.steps(3);
  EXPECT_TRUE(same_weights(straight.model, second.model));
  EXPECT_EQ(straight.trainer.state(), second.trainer.state());
}

TEST(Trainer, AStepThatIsNotFiniteLeavesNoTrace) {
  Bench bench;
  bench.steps(1);
  Param* head = bench.model.params().find("lm_head.weight");
  const Matrix saved = clone(In2(head->vec().data(), {head->rows(), head->cols()}));
  head->vec_mut().data()[5] = std::numeric_limits<float>::infinity();
  Param* norm = bench.model.params().find("model.norm.weight");
  const float before = norm->vec().data()[0];
  const Progress progress = bench.trainer.step();
  EXPECT_FALSE(progress.applied);
  EXPECT_EQ(progress.not_applied, 1);
  EXPECT_EQ(progress.step, 2);
  EXPECT_EQ(norm->vec().data()[0], before);
  EXPECT_EQ(bench.trainer.optimizer().updates(), 1);
  std::memcpy(head->value, saved.data(), static_cast<size_t>(saved.size()) * sizeof(float));
  EXPECT_TRUE(bench.trainer.step().applied);
}

TEST(Checkpoint, KeepsTheNewestAndPassesOverBrokenSets) {
  const fs::path run = scratch_dir();
  Bench bench;
  for (int i = 0; i < 3; ++i) {
    bench.steps(1);
    save_checkpoint(bench.trainer, run, {});
  }
  EXPECT_FALSE(fs::exists(run / "checkpoints" / "step-1"));
  EXPECT_TRUE(fs::exists(run / "checkpoints" / "step-2"));
  fs::create_directories(run / "checkpoints" / "step-9.tmp-1");
  fs::remove(run / "checkpoints" / "step-3" / "manifest.json");
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(run, passed_over);
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->filename(), "step-2");
  ASSERT_EQ(passed_over.size(), 1u);
  EXPECT_NE(passed_over[0].find("step-3"), std::string::npos);
  EXPECT_ERROR(checkpoint_of_step(run, 7), kUsage, "there are: 3, 2");
}

TEST(Checkpoint, DamageAndAnotherRecipeAreRefused) {
  const fs::path run = scratch_dir();
  Bench bench;
  bench.steps(1);
  const fs::path folder = save_checkpoint(bench.trainer, run, {});
  TrainRecipe other = tiny_recipe();
  other.optim.lr = 0.5;
  Bench stranger(other);
  EXPECT_ERROR(load_checkpoint(stranger.trainer, folder), kUsage, "another optim.lr");
  std::string bytes = read_file(folder / "optimizer.safetensors");
  bytes[bytes.size() - 3] = static_cast<char>(bytes[bytes.size() - 3] ^ 1);
  write_file_atomically(folder / "optimizer.safetensors", bytes);
  EXPECT_ERROR(load_checkpoint(bench.trainer, folder), kFormat,
               "optimizer.safetensors has another hash");
}

}  // namespace
}  // namespace hadal
