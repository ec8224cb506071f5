#include "train/bench.h"

#include <gtest/gtest.h>

#include "model/inspect.h"

namespace hadal {
namespace {

TrainRecipe small_recipe() {
  return parse_recipe(R"([data]
sequence_length = 33
[batch]
sequences = 4
micro = 2
[model]
vocab_size = 61
hidden_size = 32
intermediate_size = 48
moe_intermediate_size = 16
num_hidden_layers = 2
first_k_dense_replace = 1
num_attention_heads = 2
q_lora_rank = 0
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 4
v_head_dim = 8
n_routed_experts = 4
n_shared_experts = 1
num_experts_per_tok = 2
n_group = 1
topk_group = 1
num_nextn_predict_layers = 0
)",
                      "small");
}

TEST(BenchTrain, counts_the_arithmetic_of_the_model) {
  const TrainRecipe recipe = small_recipe();
  const TrainBench bench = bench_train(recipe, {.steps = 2, .warmup = 1});
  // Forward once, backward twice; a query sees 17 keys in the mean.
  const Inspection model = inspect_model(recipe_model(recipe, {}));
  const double attention = 17.0 * 2 * 2 * (8 + 4 + 8) * 2;  // layers, heads
  EXPECT_DOUBLE_EQ(bench.flops_per_token, 3 * (static_cast<double>(2 * model.active) + attention));
  EXPECT_DOUBLE_EQ(bench.flops_per_token, training_flops_per_token(model, 33));
  EXPECT_EQ(bench.tokens_a_step, 132);
  EXPECT_EQ(bench.parameters, bench.gradients / 4);
  EXPECT_GE(bench.moments, 2 * bench.gradients);
  EXPECT_GT(bench.activations, 0);
  double seconds = bench.elementwise_seconds;
  for (const StepClock::Total& part : bench.parts) {
    EXPECT_GT(part.seconds, 0);
    seconds += part.seconds;
  }
  EXPECT_GT(bench.elementwise_seconds, 0);
  EXPECT_NEAR(seconds, bench.seconds, 1e-9);
  EXPECT_DOUBLE_EQ(bench.gflops(), bench.tokens_per_s * bench.flops_per_token / 1e9);
}

TEST(BenchTrain, loads_are_as_uneven_as_asked) {
  EXPECT_LT(bench_train(small_recipe(), {.steps = 1}).max_vio, 0.6);
  // All to two of four experts would be 1.
  EXPECT_NEAR(bench_train(small_recipe(), {.steps = 1, .warmup = 1, .max_vio = 0.8}).max_vio, 0.8,
              0.15);
}

TEST(BenchTrain, needs_a_step) {
  EXPECT_THROW(bench_train(small_recipe(), {.steps = 0}), Error);
}

}  // namespace
}  // namespace hadal
