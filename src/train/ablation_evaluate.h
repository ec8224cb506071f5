#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/ablation.h"

namespace hadal {

// What the trained models of an ablation say of held-out text when keys of their recipes are set
// otherwise: longer rows, experts left out. The weights are those of OUT/VARIANT-SEED/model;
// tensors that the changed model has no place for are left out, what it lacks is an error.
struct AblationEvaluation {
  struct Row {
    std::string variant;
    std::vector<double> losses;       // nats per token, one a complete run
    double loss = 0, spread = 0;      // mean, standard deviation
    std::vector<double> by_position;  // mean loss of each of run.eval_buckets parts of the row
    PairedTest trained, first;        // beside its evaluation in training, and the first row's here
    double trained_p = 1, first_p = 1;  // corrected for the number of rows
  };
  std::string name;
  std::vector<std::string> sets;
  std::vector<Row> rows;
};

using EvaluationWatch =
    std::function<void(const AblationPlan::Evaluate&, const AblationRun&)>;  // told what comes next
// As the plan says, of the runs that are complete. Nothing is kept: the next call evaluates anew.
std::vector<AblationEvaluation> evaluate_otherwise(const AblationPlan& plan,
                                                   const std::vector<AblationRun>& runs,
                                                   const EvaluationWatch& each = {});

// A section for each, to stand behind ablation_markdown.
std::string evaluation_markdown(const std::vector<AblationEvaluation>& evaluations);
OrderedJson evaluation_json(const std::vector<AblationEvaluation>& evaluations);

}  // namespace hadal
