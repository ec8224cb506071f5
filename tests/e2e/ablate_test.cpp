// The same against the same: no difference; and what may not be compared.
#include <gtest/gtest.h>

#include <fstream>

#include "core/json.h"
#include "tests/e2e/program.h"

namespace hadal {
namespace {

class Ablate : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(folder_ / "text.jsonl");
    for (int i = 0; i < 200; ++i) {
      text << Json{{"text", str("The cat number ", i, " sat on the mat.")}}.dump() << "\n";
    }
    text.close();
    const Outcome made = hadal(str("tokenizer train --input ", at("text.jsonl"),
                                   " --vocab-size 300 --out ", at("tok/tokenizer.json")));
    ASSERT_EQ(made.code, 0) << made.err;
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  Outcome ablate(const std::string& variants, const std::string& more) const {
    std::ofstream plan(folder_ / "plan.toml");
    plan << "question = \"Is it the same?\"\nbase = \""
         << (source_dir() / "recipes" / "text_small.toml").string()
         << "\"\nseeds = [1, 2]\nslice_steps = 2\nset = [\"data.tokenizer="
         << at("tok/tokenizer.json") << "\", 'data.train=[\"" << at("text.jsonl")
         << "\"]', 'data.valid=[]', 'data.valid_share=0.1', 'data.sequence_length=32',"
            " 'batch.sequences=4', 'batch.micro=2', 'run.steps=4', 'model.num_hidden_layers=2',"
            " 'model.hidden_size=64']\n"
         << variants;
    plan.close();
    return hadal(str("ablate ", at("plan.toml"), " --threads 1 --out ", at("out"), " ", more));
  }

 private:
  fs::path folder_ = scratch_dir();
};

TEST_F(Ablate, TheSameAgainstTheSameIsNoDifference) {
  const std::string plan = "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"again\"\n";
  // Broken off after the first slice, and gone on with.
  const Outcome begun = ablate(plan, "--minutes 0.01 --json");
  ASSERT_EQ(begun.code, 0) << begun.err;
  const Outcome whole = ablate(plan, "--json");
  ASSERT_EQ(whole.code, 0) << whole.err;
  const Json result = Json::parse(whole.out);
  EXPECT_EQ(result["complete"], true);
  const Json &a = result["variants"][0], &again = result["variants"][1];
  ASSERT_EQ(again["losses"].size(), 2u);
  EXPECT_EQ(a["losses"], again["losses"]);
  EXPECT_NE(a["losses"][0], a["losses"][1]);  // the seeds are two
  EXPECT_EQ(again["verdict"], "no difference");
  EXPECT_EQ(again["p"], 1);
  EXPECT_GT(a["kv_bytes_per_token"], 0);
  EXPECT_GT(a["tokens_per_s"], 0);
  const std::string table = read_file(at("out/ablation.md"));
  EXPECT_NE(table.find("Is it the same?"), std::string::npos);
  EXPECT_NE(table.find("| again |"), std::string::npos);
  EXPECT_NE(read_file(at("out/report.html")).find("\"again-2\""), std::string::npos);
}

TEST_F(Ablate, TrainedModelsAreEvaluatedWithOtherKeys) {
  const std::string two = "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\n";
  const std::string as_trained = two + "[[evaluate]]\nname = \"as trained\"\n";
  const Outcome trained =
      ablate(as_trained +
                 "[[evaluate]]\nname = \"longer\"\nset = [\"data.sequence_length=64\", "
                 "\"model.max_position_embeddings=64\", \"run.eval_buckets=4\"]\n"
                 "[[evaluate]]\nname = \"alone\"\nvariants = [\"b\"]\n"
                 "set = [\"model.n_shared_experts=0\"]\n",
             "--json");
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Json result = Json::parse(trained.out);
  const Json& same = result["evaluations"][0]["variants"];
  ASSERT_EQ(same.size(), 2u);
  EXPECT_EQ(same[1]["losses"], result["variants"][1]["losses"]);  // to the last bit
  EXPECT_EQ(same[1]["beside_trained"]["p"], 1);
  EXPECT_EQ(same[1]["beside_first"]["verdict"], "no difference");
  const Json& longer = result["evaluations"][1]["variants"];
  EXPECT_EQ(longer[0]["by_position"].size(), 4u);
  EXPECT_NE(longer[0]["losses"], same[0]["losses"]);
  const Json& alone = result["evaluations"][2]["variants"];
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0]["variant"], "b");
  EXPECT_NE(alone[0]["losses"], same[1]["losses"]);
  EXPECT_NE(read_file(at("out/ablation.md")).find("## longer\n"), std::string::npos);

  // A run that was killed before its model was written gets it from its checkpoint.
  fs::remove_all(at("out/b-2/model"));
  const Outcome again = ablate(as_trained, "--json");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(Json::parse(again.out)["evaluations"][0]["variants"], same);
  const Outcome wider = ablate(as_trained + "set = [\"model.n_routed_experts=64\"]\n", "");
  EXPECT_EQ(wider.code, 1);
  EXPECT_NE(wider.err.find("tensors are missing"), std::string::npos) << wider.err;
}

TEST_F(Ablate, WhatCannotBeComparedIsRefused) {
  const std::string a = "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\nset = ";
  const Outcome wide = ablate(a + "[\"model.moe_intermediate_size=192\"]\n", "");
  EXPECT_EQ(wide.code, 2);
  EXPECT_NE(wide.err.find("variant b has "), std::string::npos) << wide.err;
  EXPECT_NE(wide.err.find("more than 2% apart"), std::string::npos) << wide.err;
  const Outcome longer = ablate(a + "[\"run.steps=8\"]\n", "");
  EXPECT_EQ(longer.code, 2);
  EXPECT_NE(longer.err.find("trains on 1024 tokens"), std::string::npos) << longer.err;
  const Outcome blind = ablate(a + "[\"data.valid_share=0\"]\n", "");
  EXPECT_EQ(blind.code, 2);
  EXPECT_NE(blind.err.find("holds no text out"), std::string::npos) << blind.err;
  const Outcome unknown =
      ablate(a + "[]\n[[evaluate]]\nname = \"x\"\nset = [\"model.shared_experts=0\"]\n", "");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("shared_experts"), std::string::npos) << unknown.err;
  EXPECT_FALSE(fs::exists(at("out")));
}

}  // namespace
}  // namespace hadal
