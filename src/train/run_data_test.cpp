#include "train/run_data.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/testing.h"
#include "text/bpe_trainer.h"
#include "train/trainer.h"

namespace hadal {
namespace {

// Three sources whose documents say which they are of.
class RunDataTest : public testing::Test {
 protected:
  fs::path folder_ = scratch_dir();

  void SetUp() override {
    BpeTrainOptions options;
    options.vocab_size = 280;
    options.added_tokens = {{"<|fim_begin|>"}, {"<|fim_hole|>"}, {"<|fim_end|>"}};
    BpeTrainer trainer(options);
    trainer.add("aa bb cc aa bb cc aa bb cc");
    const TokenizerJson files = trainer.train();
    write_file_atomically(folder_ / "tokenizer.json", files.tokenizer_json);
    write_file_atomically(folder_ / "tokenizer_config.json", files.tokenizer_config_json);
    for (const char* name : {"a", "b", "c"}) {
      for (const char* part : {"train", "valid"}) {
        std::string lines;
        for (int i = 0; i < 30; ++i) {
          std::string text;
          for (int j = 0; j < 5 + i % 7; ++j) text += str(name, name, " ");
          lines += Json{{"text", text}}.dump() + "\n";
        }
        write_file_atomically(folder_ / str(name, "_", part, ".jsonl"), lines);
      }
    }
  }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  TrainRecipe recipe(const std::string& data) const {
    return parse_recipe(str("[run]\neval_every = 1\n[batch]\nsequences = 4\n[data]\n",
                            "sequence_length = 16\neval_sequences = 5\ntokenizer = \"",
                            folder_.string(), "\"\ncache = \"", file("cache"), "\"\n", data),
                        "test.toml");
  }
  std::string source(const std::string& name, double weight, bool valid = true) const {
    return str("[[data.source]]\nname = \"", name, "\"\ntrain = [\"", file(name + "_train*"),
               "\"]\nweight = ", weight, "\n",
               valid ? str("valid = [\"", file(name + "_valid*"), "\"]\n") : "");
  }
  RunData open(const TrainRecipe& r) const { return open_run_data(r, Tokenizer::load(folder_), 1); }
};

TEST_F(RunDataTest, ThePlainFormIsOneSource) {
  const RunData data = open(recipe(str("train = [\"", file("a_train.jsonl"), "\"]\nvalid = [\"",
                                       file("a_valid.jsonl"), "\"]\n")));
  ASSERT_EQ(data.train->parts().size(), 1u);
  ASSERT_EQ(data.held_out.size(), 1u);
  EXPECT_EQ(data.train->batch(0, 4).batch.ids.size(), 64u);
}

TEST_F(RunDataTest, SourcesHaveTheirWeightsTheirOrderAndTheirHeldOutText) {
  const RunData data = open(recipe(source("a", 3) + source("b", 1, false) + source("c", 4)));
  const auto& quotas = data.train->quotas();
  EXPECT_EQ(quotas, (std::vector<int64_t>{1536, 512, 2048}));
  ASSERT_EQ(data.held_out.size(), 2u);
  EXPECT_EQ(data.held_out[1].name, "c");
  const auto& parts = data.train->parts();
  EXPECT_NE(parts[0].source.options().seed, parts[1].source.options().seed);
  EXPECT_TRUE(parts[0].source.options().shuffle);
  EXPECT_FALSE(data.held_out[0].source->options().shuffle);
}

TEST_F(RunDataTest, AShareOfEachSourceIsHeldOut) {
  const RunData data =
      open(recipe("valid_share = 0.2\n" + source("a", 1, false) + source("b", 1, false)));
  ASSERT_EQ(data.held_out.size(), 2u);
  const RunData all = open(recipe(source("a", 1, false) + source("b", 1, false)));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(data.train->parts()[i].source.tokens() + data.held_out[i].source->tokens(),
              all.train->parts()[i].source.tokens());
  }
}

TEST_F(RunDataTest, FimIsForTrainingAlone) {
  const RunData plain = open(recipe(source("a", 1)));
  const RunData data = open(recipe("fim_rate = 0.5\ndocument_mask = true\n" + source("a", 1)));
  EXPECT_EQ(data.train->tokens(), plain.train->tokens() + 15 * kFimTokens);
  EXPECT_EQ(data.held_out[0].source->tokens(), plain.held_out[0].source->tokens());
  EXPECT_TRUE(data.held_out[0].source->options().document_mask);
  EXPECT_FALSE(data.train->batch(0, 1).batch.documents.empty());
}

TEST_F(RunDataTest, WhatNoRunCanBeMadeOf) {
  EXPECT_ERROR(open(recipe("")), kUsage, "names no text");
  EXPECT_ERROR(open(recipe(str("train = [\"", file("none*.txt"), "\"]\n"))), kUsage,
               "no file matches");
  write_file_atomically(folder_ / "short.txt", "aa bb");
  EXPECT_ERROR(open(recipe(str("train = [\"", file("short.txt"), "\"]\n"))), kFormat,
               "tokens, expected more than data.sequence_length, 16");
  write_file_atomically(folder_ / "d_train.txt", "aa");
  EXPECT_ERROR(open(recipe(source("a", 1) + source("d", 1, false))), kFormat,
               "the training text of source \"d\" has");
  EXPECT_ERROR(open(recipe(str("valid_share = 0.1\ntrain = [\"", file("short.txt"), "\"]\n"))),
               kConfig, "cannot hold out a share of 1 document");
}

// A whole trainer on them: an evaluation tells of each source, and rows follow from the cursor
// alone.
TEST_F(RunDataTest, ATrainerEvaluatesEachSourceAndGoesOnWithTheSameRows) {
  const TrainRecipe r = [&] {
    TrainRecipe made = recipe("fim_rate = 0.3\ndocument_mask = true\n" + source("a", 3) +
                              source("b", 1) + source("c", 2, false));
    made.model = Json::parse(R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32})");
    return made;
  }();
  const auto losses = [&](int64_t from, int64_t steps, Evaluation* evaluation) {
    const RunData data = open_run_data(r, Tokenizer::load(folder_), 0);
    Transformer model(recipe_model(r, {}));
    prepare_training(model.params(), r);
    Trainer trainer(model, r, *data.train, data.held_out);
    trainer.set_state({0, 4 * from, 0, 0});
    if (evaluation != nullptr) *evaluation = trainer.evaluate();
    std::vector<double> out;
    for (int64_t i = 0; i < steps; ++i) {
      const TextBatch text = data.train->batch(trainer.state().row, 4);
      trainer.step();
      out.push_back(static_cast<double>(text.bytes));
      for (const int32_t id : text.batch.ids) out.push_back(id);
    }
    return out;
  };
  Evaluation e;
  const auto whole = losses(0, 6, &e);
  const auto rest = losses(4, 2, nullptr);
  EXPECT_TRUE(std::equal(rest.rbegin(), rest.rend(), whole.rbegin()));
  ASSERT_EQ(e.sources.size(), 2u);
  EXPECT_EQ(e.sources[0].name, "a");
  EXPECT_EQ(e.sources[1].name, "b");
  EXPECT_NE(e.sources[0].loss, e.sources[1].loss);
  EXPECT_EQ(e.tokens, e.sources[0].tokens + e.sources[1].tokens);
  EXPECT_EQ(e.bytes, e.sources[0].bytes + e.sources[1].bytes);
  double nats = 0;
  for (const SourceEvaluation& s : e.sources) {
    nats += s.loss * double(s.tokens);
    EXPECT_NEAR(s.bits_per_byte, s.loss * double(s.tokens) / std::log(2.0) / double(s.bytes), 1e-9);
  }
  EXPECT_NEAR(e.loss, nats / double(e.tokens), 1e-9);
}

TEST_F(RunDataTest, SourcesOfARecipeAreCheckedAndWrittenBack) {
  const TrainRecipe r = recipe(source("a", 3) + source("b", 1, false));
  ASSERT_EQ(r.data.source.size(), 2u);
  EXPECT_EQ(r.data.source[0].weight, 3);
  EXPECT_EQ(parse_sources(Json::parse(recipe_json(r).at("data.source").dump()), "x"),
            r.data.source);
  const auto with = [&](const std::string& text) { return recipe("[[data.source]]\n" + text); };
  EXPECT_ERROR(with("nam = \"a\""), kUsage, "data.source[0].nam: no such key");
  EXPECT_ERROR(with("name = \"a\""), kUsage, "data.source[0], \"a\", has no train");
  EXPECT_ERROR(with("train = [\"a\"]"), kUsage, "data.source[0] has no name");
  EXPECT_ERROR(with("name = \"a\"\ntrain = \"a\""), kUsage, "train is \"a\", expected a list");
  EXPECT_ERROR(with("name = \"a\"\ntrain = [\"a\"]\nweight = 0"), kUsage, "weight is 0, expected");
  EXPECT_ERROR(recipe(source("a", 1) + source("a", 2)), kUsage, "two sources are named \"a\"");
  EXPECT_ERROR(recipe("train = [\"x.txt\"]\n" + source("a", 1)), kUsage, "expected one way");
  EXPECT_ERROR(recipe("valid_share = 0.1\n" + source("a", 1)), kUsage, "source \"a\" has valid");
  EXPECT_ERROR(recipe("document_mask = 1\n"), kUsage,
               "data.document_mask is 1, expected a boolean");
}

}  // namespace
}  // namespace hadal
