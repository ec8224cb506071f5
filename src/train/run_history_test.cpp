#include "train/run_history.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/testing.h"

namespace hadal {
namespace {

fs::path run_of(const std::string& metrics, const std::string& name = "a") {
  const fs::path run = scratch_dir() / name;
  make_folder(run);
  write_file_atomically(run / "metrics.jsonl", metrics);
  return run;
}

constexpr const char* kTwoSteps =
    R"({"step": 0, "tokens": 0, "evaluation": {"bits_per_byte": 8, "tokens": 50}}
{"step": 1, "tokens": 10, "loss": 3, "seconds": 0.5, "layers": [{"layer": -1, "gradient_norm": 2}, {"layer": 1, "gradient_norm": 1, "max_vio": 0.5, "gate_entropy": 0.7, "load": [3, 1]}]}
{"step": 2, "tokens": 20, "loss": null, "seconds": 0.25, "late": 1, "applied": false, "evaluation": {"bits_per_byte": 4, "tokens": 50}, "samples": [{"prompt": "p", "text": "t"}]}
)";

TEST(RunHistory, ReadsColumnsLayersAndTexts) {
  const fs::path run = run_of(kTwoSteps, "name");
  write_file_atomically(run / "recipe.json", R"({"run.steps": 2, "model": {"hidden_size": 8}})");
  const RunHistory h = load_history(run);
  EXPECT_EQ(h.name, "name");
  EXPECT_EQ(h.recipe["run.steps"], 2);
  EXPECT_EQ(h.recipe["model.hidden_size"], 8);
  EXPECT_TRUE(h.facts.empty());
  EXPECT_EQ(h.steps.at("step"), (std::vector<double>{1, 2}));
  EXPECT_EQ(h.steps.at("elapsed"), (std::vector<double>{0.5, 0.75}));
  EXPECT_TRUE(std::isnan(h.steps.at("loss")[1]));
  EXPECT_TRUE(std::isnan(h.steps.at("late")[0]));  // a column that began later
  EXPECT_EQ(h.steps.at("late")[1], 1);
  EXPECT_EQ(h.evaluations.at("step"), (std::vector<double>{0, 2}));
  EXPECT_EQ(h.evaluations.at("tokens"), (std::vector<double>{0, 20}));  // trained on, not held out
  EXPECT_EQ(h.evaluations.at("bits_per_byte"), (std::vector<double>{8, 4}));
  ASSERT_EQ(h.layers.size(), 2u);
  EXPECT_EQ(h.layer_steps, (std::vector<int64_t>{1}));
  EXPECT_TRUE(h.layers[0].load[0].empty());
  EXPECT_EQ(h.layers[1].load[0], (std::vector<int64_t>{3, 1}));
  ASSERT_EQ(h.samples.size(), 1u);
  EXPECT_EQ(h.samples[0].step, 2);
  EXPECT_EQ(h.not_applied, 1);
}

TEST(RunHistory, ALineThatIsBeingWrittenIsNoDamage) {
  EXPECT_EQ(load_history(run_of(std::string(kTwoSteps) + R"({"step": 3, "lo)")).steps.at("step"),
            (std::vector<double>{1, 2}));
  EXPECT_ERROR(load_history(run_of("{\"step\": 1}\n{\"step\": 2, \"lo\n{\"step\": 3}\n")), kFormat,
               "metrics.jsonl:2");
  EXPECT_ERROR(load_history(run_of("{\"loss\": 1}\n")), kFormat, "metrics.jsonl:1: step");
  EXPECT_ERROR(load_history(run_of("[1]\n")), kFormat, "metrics.jsonl:1");
  EXPECT_ERROR(load_history(scratch_dir()), kUsage, "is no run: it has no metrics.jsonl");
}

TEST(RunHistory, LongCurvesBecomeMeansAndLoadsSums) {
  std::string lines;
  for (int step = 1; step <= 10; ++step) {
    lines += str("{\"step\": ", step, ", \"tokens\": ", 4 * step,
                 ", \"loss\": ", step == 2 ? "null" : std::to_string(step),
                 ", \"layers\": [{\"layer\": 0, \"gradient_norm\": ", step, ", \"load\": [1, ",
                 step, "]}]}\n");
  }
  const OrderedJson page =
      history_json(load_history(run_of(lines)), {.points = 4, .load_cells = 8, .samples = 1});
  EXPECT_EQ(page["steps"]["step"], OrderedJson({3, 6, 9, 10}));
  EXPECT_EQ(page["steps"]["loss"], OrderedJson({2, 5, 8, 10}));  // (1 + 3) / 2: null is no loss
  EXPECT_EQ(page["by_layer"]["step"], OrderedJson({3, 6, 9, 10}));
  const OrderedJson& layer = page["by_layer"]["layers"][0];
  EXPECT_EQ(layer["load"], OrderedJson({{3, 6}, {3, 15}, {3, 24}, {1, 10}}));
  EXPECT_EQ(layer["gradient_norm"], OrderedJson({2, 5, 8, 10}));
}

TEST(RunHistory, TextsOfAStepStayTogether) {
  std::string lines;
  for (int step = 1; step <= 9; ++step) {
    lines += str("{\"step\": ", step, ", \"samples\": [{\"prompt\": \"a\", \"text\": \"x\"}, ",
                 "{\"prompt\": \"b\", \"text\": \"y\"}]}\n");
  }
  const OrderedJson texts = history_json(load_history(run_of(lines)), {.samples = 6})["samples"];
  std::vector<int64_t> steps;
  for (const OrderedJson& s : texts) steps.push_back(s["step"]);
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 1, 4, 4, 7, 7, 9, 9}));  // the last one always
}

}  // namespace
}  // namespace hadal
