#include "train/ablation_evaluate.h"

#include <map>

#include "text/tokenizer.h"
#include "train/run_data.h"
#include "train/trainer.h"

namespace hadal {
namespace {

Evaluation evaluate_model(TrainRecipe recipe, const fs::path& folder) {
  const Tokenizer t = Tokenizer::load(recipe.data.tokenizer);
  const ModelConfig config =
      recipe_model(recipe, {t.vocab_size(), t.bos_id(), t.eos_id(), t.pad_id()});
  const RunData data = open_run_data(recipe, t, config.num_nextn_predict_layers);
  Transformer model(config);
  recipe.run.init_from = folder.string();
  load_first_weights(model, recipe);  // what it passes over is what the plan leaves out
  return Trainer(model, recipe, *data.train, data.held_out).evaluate();
}

// Of one variant, by seed.
struct VariantLosses {
  std::map<int64_t, double> otherwise, trained;
};

PairedTest compared(const std::map<int64_t, double>& a, const std::map<int64_t, double>& b) {
  std::vector<double> first, second;
  for (const auto& [seed, loss] : b) {
    const auto found = a.find(seed);
    if (found == a.end()) continue;
    first.push_back(found->second);
    second.push_back(loss);
  }
  return paired_test(first, second);
}

void add(const std::vector<double>& part, std::vector<double>& total) {
  total.resize(part.size());
  for (size_t i = 0; i < part.size(); ++i) total[i] += part[i];
}

AblationEvaluation::Row row_of(const AblationPlan::Variant& variant, const VariantLosses& losses,
                               std::vector<double> by_position) {
  AblationEvaluation::Row row;
  row.variant = variant.name;
  for (const auto& [seed, loss] : losses.otherwise) row.losses.push_back(loss);
  row.loss = mean_of(row.losses);
  row.spread = spread_of(row.losses);
  row.by_position = std::move(by_position);
  for (double& sum : row.by_position) sum /= static_cast<double>(row.losses.size());
  row.trained = compared(losses.trained, losses.otherwise);
  return row;
}

void correct(std::vector<AblationEvaluation::Row>& rows) {
  std::vector<double> trained, first;
  for (const auto& row : rows) trained.push_back(row.trained.p);
  for (size_t i = 1; i < rows.size(); ++i) first.push_back(rows[i].first.p);
  trained = holm(trained);
  first = holm(first);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].trained_p = trained[i];
    if (i > 0) rows[i].first_p = first[i - 1];
  }
}

class Evaluator {
 public:
  Evaluator(const AblationPlan& plan, const std::vector<AblationRun>& runs,
            const EvaluationWatch& each)
      : plan_(plan), runs_(runs), each_(each) {}

  AblationEvaluation evaluate(const AblationPlan::Evaluate& asked) const {
    AblationEvaluation result{asked.name, asked.sets, {}};
    VariantLosses first;
    for (const size_t variant : asked.variants) {
      VariantLosses losses;
      std::vector<double> by_position;
      for (const AblationRun& run : runs_) {
        if (run.variant == variant) add_run(asked, run, losses, by_position);
      }
      result.rows.push_back(row_of(plan_.variants[variant], losses, std::move(by_position)));
      if (result.rows.size() == 1) first = losses;
      result.rows.back().first = compared(first.otherwise, losses.otherwise);
    }
    correct(result.rows);
    return result;
  }

 private:
  void add_run(const AblationPlan::Evaluate& asked, const AblationRun& run, VariantLosses& losses,
               std::vector<double>& by_position) const {
    const std::optional<double> trained = final_loss(run);
    if (!trained) return;
    if (each_) each_(asked, run);
    const Evaluation e = evaluate_model(evaluation_recipe(plan_, asked, run),
                                        fs::path(run.recipe.run.out) / "model");
    losses.otherwise[run.seed] = e.loss;
    losses.trained[run.seed] = *trained;
    add(e.loss_by_position, by_position);
  }

  const AblationPlan& plan_;
  const std::vector<AblationRun>& runs_;
  const EvaluationWatch& each_;
};

}  // namespace

std::vector<AblationEvaluation> evaluate_otherwise(const AblationPlan& plan,
                                                   const std::vector<AblationRun>& runs,
                                                   const EvaluationWatch& each) {
  std::vector<AblationEvaluation> out;
  const Evaluator evaluator(plan, runs, each);
  for (const AblationPlan::Evaluate& asked : plan.evaluations) {
    out.push_back(evaluator.evaluate(asked));
  }
  return out;
}

}  // namespace hadal
