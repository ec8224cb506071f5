// A run watched on the way, and the page about it.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/json.h"
#include "tests/e2e/program.h"

namespace hadal {
namespace {

constexpr const char* kAttack = "</script><img src=x onerror=alert(1)>";

class Report : public testing::Test {
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

  Outcome train(const std::string& name, const std::string& more) const {
    return hadal(str("train ", (source_dir() / "recipes" / "text_small.toml").string(),
                     " --set data.tokenizer=", at("tok/tokenizer.json"), " --set 'data.train=[\"",
                     at("text.jsonl"), "\"]' --set 'data.valid=[]' --set data.valid_share=0.1",
                     " --set data.sequence_length=32 --set batch.sequences=4 --set batch.micro=2",
                     " --set run.checkpoint_every=0 --set run.layers_every=2 --set run.steps=5",
                     " --set model.num_hidden_layers=2 --set model.hidden_size=64 --threads 1",
                     " --json --out ", at(name), " ", more));
  }
  std::vector<Json> metrics(const std::string& name) const {
    std::istringstream lines(read_file(folder_ / name / "metrics.jsonl"));
    std::vector<Json> out;
    for (std::string line; std::getline(lines, line);) out.push_back(Json::parse(line));
    return out;
  }

 private:
  fs::path folder_ = scratch_dir();
};

TEST_F(Report, OfARunThatWasWatched) {
  const Outcome plain = train("plain", "--set optim.lr=1e-3");
  ASSERT_EQ(plain.code, 0) << plain.err;
  const Outcome watched =
      train("watched", str("--set optim.lr=1e-3 --set run.sample_every=2 --set run.sample_tokens=8",
                           " --set 'run.sample_prompts=[\"The cat\", \"", kAttack, "\"]'"));
  ASSERT_EQ(watched.code, 0) << watched.err;
  // Watching changes nothing.
  EXPECT_EQ(read_file(at("plain/model/model.safetensors")),
            read_file(at("watched/model/model.safetensors")));
  EXPECT_TRUE(fs::exists(at("watched/tensorboard")));

  const std::vector<Json> lines = metrics("watched");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_TRUE(lines[0].contains("evaluation"));
  for (size_t step = 1; step <= 5; ++step) {
    const Json& line = lines[step];
    EXPECT_EQ(line["step"], step);
    EXPECT_EQ(line.contains("samples"), step == 2 || step == 4 || step == 5) << step;
    EXPECT_EQ(line.contains("layers"), step != 3) << step;
    EXPECT_GT(line["share_of_peak"], 0);
    EXPECT_LT(line["share_of_peak"], 1);
    EXPECT_GT(line["resident_bytes"], 1e6);
  }
  EXPECT_EQ(lines[2]["samples"][1]["prompt"], kAttack);
  // Outside, a dense layer, one with experts, the MTP module: its 128 tokens choose 4 each.
  const Json& layers = lines[4]["layers"];
  ASSERT_EQ(layers.size(), 4u);
  EXPECT_FALSE(layers[1].contains("load"));
  int64_t chosen = 0;
  for (const Json& count : layers[2]["load"]) chosen += count.get<int64_t>();
  EXPECT_EQ(chosen, 128 * 4);

  const Outcome page =
      hadal(str("report ", at("plain"), " ", at("watched"), " --out ", at("report.html")));
  ASSERT_EQ(page.code, 0) << page.err;
  const std::string html = read_file(at("report.html"));
  EXPECT_EQ(html.find(kAttack), std::string::npos);
  EXPECT_NE(html.find("\\u003c/script>\\u003cimg src=x"), std::string::npos);
  for (const char* name : {"\"plain\"", "\"watched\"", "run.sample_every", "gate_entropy"}) {
    EXPECT_NE(html.find(name), std::string::npos) << name;
  }
  for (const char* address : {"http://", "https://", "//cdn"}) {
    const size_t found = html.find(address);
    EXPECT_TRUE(found == std::string::npos ||
                html.compare(found, 18, "http://www.w3.org/") == 0)  // a name, not a place
        << html.substr(found, 60);
  }
}

TEST_F(Report, WhatCannotBeShownIsRefused) {
  const Outcome none = hadal(str("report ", at("tok"), " --out ", at("r.html")));
  EXPECT_EQ(none.code, 2);
  EXPECT_NE(none.err.find("is no run: it has no metrics.jsonl"), std::string::npos) << none.err;
  EXPECT_FALSE(fs::exists(at("r.html")));
  const Outcome long_prompt =
      train("long",
            "--set run.sample_every=2 --set model.max_position_embeddings=32"
            " --set 'run.sample_prompts=[\"" +
                std::string(200, 'x') + "\"]'");
  EXPECT_EQ(long_prompt.code, 2);
  EXPECT_NE(long_prompt.err.find("run.sample_prompts"), std::string::npos) << long_prompt.err;
  EXPECT_FALSE(fs::exists(at("long/metrics.jsonl")));
}

}  // namespace
}  // namespace hadal
