#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "train/recipe.h"
#include "train/run.h"
#include "train/significance.h"

namespace hadal {

// A question put to training: the same recipe with a few keys set otherwise, several seeds each.
// A TOML file:
//   question = "Does MLA cost loss?"
//   base = "../v3_nano.toml"          # from the plan's folder; a variant may have another
//   seeds = [1, 2, 3]
//   slice_steps = 50                  # a run goes on for so long before it is another's turn
//   parameters = "equal"              # within 2%; or "any"
//   set = ["run.steps=500"]           # of all variants
//   [[variant]]                       # the first is what the others are compared with
//   name = "mla"
//   set = ["model.hadal_attention=mla"]
//   [[evaluate]]                      # asked of the trained models (train/ablation_evaluate.h)
//   name = "context x2"
//   set = ["data.sequence_length=512", "model.max_position_embeddings=512"]
//   variants = ["mla"]                # without: all
struct AblationPlan {
  struct Variant {
    std::string name;
    fs::path base;
    std::vector<std::string> sets;
  };
  struct Evaluate {
    std::string name;
    std::vector<std::string> sets;
    std::vector<size_t> variants;  // places in the list below
  };
  std::string name;  // of the file
  std::string question;
  std::vector<int64_t> seeds{1, 2, 3};
  int64_t slice_steps = 50;
  bool any_parameters = false;
  std::vector<std::string> sets;
  std::vector<Variant> variants;
  std::vector<Evaluate> evaluations;
};
// Error{kUsage} names the key that is unknown, missing or of the wrong type.
AblationPlan load_plan(const fs::path& path);

// One variant with one seed, in OUT/VARIANT-SEED.
struct AblationRun {
  size_t variant = 0;
  int64_t seed = 0;
  std::vector<std::string> sets;  // all, over the variant's base
  TrainRecipe recipe;
};
// Seed by seed, each with all variants. `sets` go over those of the plan. Error{kUsage} when the
// variants are not comparable: other numbers of tokens, parameters more than 2% from the first's
// (unless the plan allows any), or nothing held out; or when what an [[evaluate]] sets cannot be.
std::vector<AblationRun> ablation_runs(const AblationPlan& plan, const fs::path& out,
                                       const std::vector<std::string>& sets = {});

// The run's recipe with what the evaluation sets.
TrainRecipe evaluation_recipe(const AblationPlan& plan, const AblationPlan::Evaluate& evaluate,
                              const AblationRun& run);

struct AblationEvents {
  std::function<void(TrainRun&)> prepare;  // each time a run goes on
  std::function<void(const AblationRun&, const Progress&)> step;
  std::function<bool()> stop;  // asked after each slice
};
// Trains until all is done or `stop`, a slice of each run in turn, beginning with another variant
// each time round, so that what else the machine does hits all alike. Goes on where OUT ends.
// Returns whether all is done.
bool run_ablation(const AblationPlan& plan, const std::vector<AblationRun>& runs,
                  const AblationEvents& events);

// Held out, nats per token, at its last step; none of a run that is not complete.
std::optional<double> final_loss(const AblationRun& run);

// What came out, over the seeds whose runs are complete.
struct AblationRow {
  std::string variant;
  int64_t parameters = 0, kv_bytes_per_token = 0;
  std::vector<double> losses;                            // held out, nats per token, one a seed
  double loss = 0, spread = 0;                           // mean, standard deviation
  double max_vio = 0, acceptance = 0, tokens_per_s = 0;  // means
  PairedTest test;                                       // beside the first variant
  double p = 1;         // of the test, corrected for the number of comparisons (Holm)
  std::string verdict;  // "better", "worse", "no difference", or why there is none
};
std::vector<AblationRow> ablation_rows(const AblationPlan& plan,
                                       const std::vector<AblationRun>& runs);
// `better` and `worse` are said below this p only.
constexpr double kSignificance = 0.05;
void judge(std::vector<AblationRow>& rows);
// Of one comparison, with its corrected p.
std::string verdict_of(const PairedTest& test, double p);

std::string ablation_markdown(const AblationPlan& plan, const std::vector<AblationRun>& runs,
                              const std::vector<AblationRow>& rows);
OrderedJson ablation_json(const std::vector<AblationRow>& rows);

}  // namespace hadal
