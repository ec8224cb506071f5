#include "infer/generator.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

ModelConfig tiny_config(int64_t modules) {
  ModelConfig c;
  c.vocab_size = 40;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.moe_intermediate_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = c.num_key_value_heads = 2;
  c.max_position_embeddings = 256;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = c.v_head_dim = 12;
  c.qk_rope_head_dim = 8;
  c.n_routed_experts = 8;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 2;
  c.first_k_dense_replace = 1;
  c.n_group = 4;
  c.topk_group = 2;
  c.num_nextn_predict_layers = modules;
  return c;
}

class GeneratorTest : public testing::Test {
 protected:
  GeneratorTest() : model_(tiny_config(1)) {
    model_.params().allocate_training();
    model_.params().initialise(5, 0.25);
  }

  std::vector<int32_t> run(const GenerateOptions& options, GenerateStats* stats = nullptr,
                           std::vector<int32_t> prompt = {3, 1, 4, 1, 5, 9, 2, 6}) {
    std::vector<int32_t> out;
    const GenerateStats s = Generator(model_).generate(prompt, options, [&](int32_t t) {
      out.push_back(t);
      return true;
    });
    if (stats != nullptr) *stats = s;
    return out;
  }

  Transformer model_;
};

TEST_F(GeneratorTest, speculation_never_changes_a_token) {
  for (double temperature : {0.0, 0.3, 1.0}) {
    for (DType cache : {DType::kF32, DType::kBF16}) {
      GenerateOptions options{.sampling = {.temperature = temperature, .seed = 11},
                              .max_tokens = 100,
                              .speculation = {Speculation::Mode::kOff, 0},
                              .cache_dtype = cache};
      const auto plain = run(options);
      ASSERT_EQ(plain.size(), 100u);
      for (int64_t draft : {1, 2, 4}) {
        options.speculation = {Speculation::Mode::kFixed, draft};
        GenerateStats stats;
        EXPECT_EQ(run(options, &stats), plain) << draft << " drafts, temperature " << temperature;
        EXPECT_GT(stats.drafted, 0);
        EXPECT_EQ(stats.tokens, 100);
      }
      options.speculation = {Speculation::Mode::kAuto, 1};
      EXPECT_EQ(run(options), plain);
    }
  }
}

TEST_F(GeneratorTest, the_prompt_may_come_in_pieces) {
  GenerateOptions options{.sampling = {.temperature = 0.8, .seed = 2}, .max_tokens = 30};
  const auto whole = run(options);
  for (int64_t chunk : {1, 3, 5}) {
    options.prompt_chunk = chunk;
    EXPECT_EQ(run(options), whole) << "pieces of " << chunk;
  }
}

TEST_F(GeneratorTest, sampled_speculation_has_the_plain_distribution) {
  // Second token of the text: the first that a draft was proposed for. 3,000 seeds each way.
  std::vector<double> plain(40), drafted(40);
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    GenerateOptions options{.sampling = {.temperature = 0.7, .seed = seed},
                            .max_tokens = 3,
                            .speculation = {Speculation::Mode::kOff, 0}};
    plain[size_t(run(options, nullptr, {3, 1})[2])] += 1;
    options.speculation = {Speculation::Mode::kFixed, 1};
    options.sampling.seed = seed + 1'000'000;
    drafted[size_t(run(options, nullptr, {3, 1})[2])] += 1;
  }
  double statistic = 0;
  int cells = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] + drafted[i] < 10) continue;
    statistic += (plain[i] - drafted[i]) * (plain[i] - drafted[i]) / (plain[i] + drafted[i]);
    ++cells;
  }
  ASSERT_GT(cells, 3);
  EXPECT_LT(statistic, cells + 4 * std::sqrt(2.0 * cells)) << cells << " cells";
}

TEST_F(GeneratorTest, ends_at_an_end_token_and_counts_what_it_did) {
  GenerateOptions options{.sampling = {.temperature = 0}, .max_tokens = 50};
  const auto tokens = run(options);
  options.end_tokens = {39, tokens[5]};
  GenerateStats stats;
  const auto cut = run(options, &stats);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[5]) - tokens.begin();
  EXPECT_EQ(cut, std::vector<int32_t>(tokens.begin(), tokens.begin() + first));
  EXPECT_TRUE(stats.ended);
  EXPECT_EQ(stats.tokens, first);
  EXPECT_EQ(stats.prompt_tokens, 8);
}

TEST_F(GeneratorTest, fills_the_context_and_no_more) {
  GenerateOptions options{.sampling = {.temperature = 0}, .max_tokens = 10'000};
  options.speculation = {Speculation::Mode::kFixed, 3};
  EXPECT_EQ(run(options).size(), 256u - 8 + 1);  // the last token needs no position of its own
  options.speculation = {Speculation::Mode::kOff, 0};
  EXPECT_EQ(run(options).size(), 256u - 8 + 1);
}

TEST_F(GeneratorTest, refuses_impossible_prompts) {
  GenerateOptions options;
  EXPECT_ERROR(run(options, nullptr, {}), kUsage, "prompt is empty");
  EXPECT_ERROR(run(options, nullptr, {0, 40}), kUsage, "token id 40");
  EXPECT_ERROR(run(options, nullptr, std::vector<int32_t>(256, 1)), kUsage, "256 tokens");
}

}  // namespace
}  // namespace hadal
