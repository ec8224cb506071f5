#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "train/trainer.h"

namespace hadal {

// A run from a recipe to a model folder: reads the data, makes the model, trains it, writes
//   OUT/log.jsonl         a JSON object a step
//   OUT/checkpoints/...   as run.checkpoint_every says (train/checkpoint.h)
//   OUT/model             the trained model as a Hugging Face folder: FP32, or after training in
//   FP8
//                         the codes and scales of its last step (master weights are in checkpoints)
class TrainRun {
 public:
  // Loads tokenizer and data and initialises the weights. Error{kUsage} for a recipe that cannot be
  // run: no tokenizer, no training files, ...
  explicit TrainRun(const TrainRecipe& recipe);

  // Error{kUsage} if OUT has a run already.
  void check_fresh() const;
  // Goes on from the newest whole checkpoint of OUT, if there is one. What an interrupted run left
  // behind it is removed: unfinished checkpoints, and lines of the log.
  std::optional<fs::path> resume(std::vector<std::string>& passed_over);
  // To the end, or until `each` returns false.
  void train(const std::function<bool(const Progress&)>& each);

  Trainer& trainer() { return *trainer_; }
  const Transformer& model() const { return *model_; }
  // What run.init_from had to say, a line each.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const TokenSource& data() const { return *train_; }
  fs::path model_folder() const { return out_ / "model"; }
  // Of held-out text, before the first and after the last step of this process.
  const std::optional<Evaluation>& before() const { return before_; }
  const std::optional<Evaluation>& after() const { return after_; }

 private:
  void cut_log() const;

  TrainRecipe recipe_;
  fs::path out_;
  std::unique_ptr<TokenSource> train_, valid_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<Evaluation> before_, after_;
  std::vector<std::string> warnings_;
};

// One line of log.jsonl.
OrderedJson progress_json(const Progress& progress);
OrderedJson evaluation_json(const Evaluation& evaluation);

}  // namespace hadal
