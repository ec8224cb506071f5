#pragma once
#include "train/recipe.h"
#include "train/schedule.h"

namespace hadal {

// What a recipe says of one step.
struct StepPlan {
  int64_t rows = 0;  // of the batch
  double lr = 0, gamma = 0, sequence_alpha = 0, lambda = 0;
};

// A recipe's numbers along its steps: its phases, or what its short keys stand for.
class RunSchedule {
 public:
  // Error{kUsage} for phases that cannot be laid down, naming them.
  explicit RunSchedule(const TrainRecipe& recipe);

  StepPlan at(int64_t step) const;
  // Tokens of all rows before this step.
  int64_t tokens_before(int64_t step) const { return rows_.before(step).tokens; }
  // Steps until at least so many tokens are read.
  int64_t steps_for(int64_t tokens) const { return rows_.reached(tokens).step; }

 private:
  Rows rows_;
  Curve lr_, gamma_, sequence_alpha_, lambda_;
};

// The phases that the short keys of a recipe stand for: optim.schedule and its numbers;
// balance.gamma and freeze_share.
Phases lr_phases(const TrainRecipe& recipe);
Phases gamma_phases(const TrainRecipe& recipe);

}  // namespace hadal
