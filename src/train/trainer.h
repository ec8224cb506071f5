#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "model/transformer.h"
#include "train/adamw.h"
#include "train/balance.h"
#include "train/data.h"
#include "train/ema.h"
#include "train/metrics.h"
#include "train/recipe.h"
#include "train/run_schedule.h"

namespace hadal {

// What one source's held-out text says of a model.
struct SourceEvaluation {
  std::string name;
  double loss = 0, bits_per_byte = 0;  // as in Evaluation
  int64_t tokens = 0, bytes = 0;
};

// What held-out text says of a model.
struct Evaluation {
  int64_t step = 0;          // steps done when it was made
  double loss = 0;           // nats per token
  double bits_per_byte = 0;  // nats / ln 2 / bytes of the text
  int64_t tokens = 0, bytes = 0;
  std::vector<double> mtp_loss;    // nats per token, one a module
  std::vector<double> violations;  // MaxVio of each MoE layer, MTP modules last
  double max_vio = 0;              // the worst of them
  // Share of positions where the first MTP module's greedy token is the main model's: what greedy
  // speculation accepts. 0 without modules.
  double acceptance = 0;
  // Loss of run.eval_buckets equal parts of the row, nats per token: what a place far back in it is
  // worth, and whether the model stands positions that far.
  std::vector<double> loss_by_position;
  std::vector<SourceEvaluation> sources;  // each held-out text; the rest is of all of them
};

// One step, for a progress line and the log.
struct Progress {
  int64_t step = 0;  // steps done, this one included
  int64_t steps = 0;
  double loss = 0;           // of this step's batch, nats per token
  double mtp_loss = 0;       // mean of the modules
  double bits_per_byte = 0;  // of this step's batch
  double lr = 0;
  double gamma = 0, sequence_alpha = 0, mtp_lambda = 0;  // as they were in this step
  double gradient_norm = 0;
  double max_vio = 0;        // worst layer, this step's tokens
  double seconds = 0;        // of this step
  double tokens_per_s = 0;   // recent mean
  double share_of_peak = 0;  // of set_peak's rate; 0 without one
  double eta_s = 0;
  MemoryUse memory;
  std::vector<LayerMetrics> layers;  // every run.layers_every steps and in the first and last
  int64_t tokens = 0;                // trained on so far
  bool applied = true;      // false: loss or gradient was not finite, the step left no trace
  int64_t not_applied = 0;  // such steps so far
  int64_t not_applied_in_a_row = 0;
  int64_t row = 0, rows = 0;             // of the data, which this step read: from `row` on
  std::optional<Evaluation> evaluation;  // the most recent one
};

// One of the three loops. The model has its training memory and its values already:
//
//   Transformer model(config);
//   prepare_training(model.params(), recipe);
//   Trainer trainer(model, recipe, train, &valid);
//   trainer.run([&](const Progress& p) { ... return true; });
//
// The same recipe, data and weights give the same bits on the same machine, for any number of
// threads, and whether or not the run was saved and resumed on the way.
class Trainer {
 public:
  // Keeps references. Without held-out text nothing is evaluated.
  Trainer(Transformer& model, const TrainRecipe& recipe, RowSource& train,
          std::vector<HeldOut> held_out = {});
  // `valid` may be null.
  Trainer(Transformer& model, const TrainRecipe& recipe, RowSource& train, TokenSource* valid);

  // One optimizer step over batch.sequences rows, in micro-batches.
  Progress step();
  // On recipe.data.eval_sequences rows of each held-out text, or all. Error{kUsage} without any.
  Evaluation evaluate();

  // Steps until recipe.run.steps, evaluating every eval_every. `each` is called after every step
  // and stops the run by returning false.
  void run(const std::function<bool(const Progress&)>& each);
  bool done() const { return state_.step >= recipe_.run.steps; }
  // For runs whose length follows from the measured rate; not below the steps done.
  void set_steps(int64_t steps);
  // After the model's values were set from outside: what is kept of them for products follows.
  void weights_changed();

  // So that steps can say what share of the machine they use: operations of a token
  // (training_flops_per_token), and how many a second there are at most.
  void set_peak(double flops_per_token, double flops_per_s) {
    flops_per_token_ = flops_per_token;
    peak_flops_per_s_ = flops_per_s;
  }

  // What a checkpoint keeps beside weights and moments.
  struct State {
    int64_t step = 0, row = 0, tokens = 0, not_applied = 0, not_applied_in_a_row = 0;
    bool operator==(const State&) const = default;
  };
  const State& state() const { return state_; }
  void set_state(const State& state) { state_ = state; }
  AdamW& optimizer() { return optimizer_; }
  // Of the weights, when optim.ema is not 0; else null. Its last update may still be under way.
  Ema* ema() { return ema_ ? &*ema_ : nullptr; }
  Transformer& model() { return model_; }
  const TrainRecipe& recipe() const { return recipe_; }
  RowSource& data() { return train_; }
  const std::vector<MoeLoad>& last_loads() const { return loads_; }
  void set_last_loads(std::vector<MoeLoad> loads) { loads_ = std::move(loads); }
  const std::optional<Evaluation>& last_evaluation() const { return evaluation_; }

 private:
  struct Sums;
  TrainOptions train_options(const StepPlan& plan) const;
  Sums accumulate(const TextBatch& text, const StepPlan& plan, bool by_layer);
  Sums accumulate_if_finite(const TextBatch& text, const StepPlan& plan, bool by_layer);
  Sums evaluate_rows(TokenSource& source);
  bool layers_due() const;
  void measure(Progress& progress, double seconds, int64_t tokens);

  Transformer& model_;
  TrainRecipe recipe_;
  RunSchedule schedule_;
  RowSource& train_;
  std::vector<HeldOut> held_out_;
  AdamW optimizer_;
  std::optional<Ema> ema_;
  State state_;
  std::vector<MoeLoad> loads_;  // of the last step
  std::optional<Evaluation> evaluation_;
  double flops_per_token_ = 0, peak_flops_per_s_ = 0;
  double rate_ = 0;  // tokens per second, smoothed
};

}  // namespace hadal
