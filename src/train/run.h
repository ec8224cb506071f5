#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/files.h"
#include "train/run_data.h"
#include "train/trainer.h"

namespace hadal {

// A run from a recipe to a model folder: reads the data, makes the model, trains it, writes
//   OUT/lock              held by the one process that may write here
//   OUT/log.jsonl         a JSON object a step
//   OUT/checkpoints/...   as run.checkpoint_every says (train/checkpoint.h)
//   OUT/model             the trained model as a Hugging Face folder: FP32, or after training in
//   FP8
//                         the codes and scales of its last step (master weights are in checkpoints)
class TrainRun {
 public:
  // Takes OUT, loads tokenizer and data and initialises the weights. Error{kUsage} for a recipe
  // that cannot be run: no tokenizer, no training files, ... Error{kIo} if OUT cannot be written,
  // or another process is at it. `watch` is told how tokenising goes on (train/token_cache.h).
  explicit TrainRun(const TrainRecipe& recipe, const TokenizeWatch& watch = {});

  // Error{kUsage} if OUT has a run already.
  void check_fresh() const;
  // Goes on from the newest whole checkpoint of OUT, if there is one. What an interrupted run left
  // behind it is removed: unfinished checkpoints, and lines of the log; damaged checkpoints are set
  // aside. `allowed`: keys of the recipe that may differ from the checkpoint's.
  std::optional<fs::path> resume(std::vector<std::string>& passed_over,
                                 std::span<const std::string> allowed = {});
  // To the end: true. Or until `each`, called after every step, returns false: then the step is
  // saved, and the answer is false. Before the first step, Error{kResource} if the disk has no room
  // for the checkpoints. Error{kNumbers} after run.max_bad_steps steps in a row with a loss or
  // gradient that is not finite; none of them is saved.
  bool train(const std::function<bool(const Progress&)>& each);

  Trainer& trainer() { return *trainer_; }
  const Transformer& model() const { return *model_; }
  // What run.init_from had to say, a line each.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const TokenMixture& data() const { return *data_.train; }
  fs::path model_folder() const { return out_ / "model"; }
  // Of held-out text, before the first and after the last step of this process.
  const std::optional<Evaluation>& before() const { return before_; }
  const std::optional<Evaluation>& after() const { return after_; }

 private:
  void cut_log() const;
  void check_room() const;
  void after_step(Progress& progress, AppendFile& log);
  void save(AppendFile& log);

  TrainRecipe recipe_;
  fs::path out_;
  std::unique_ptr<FolderLock> lock_;
  int64_t saved_ = -1;  // step of the newest checkpoint
  RunData data_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<Evaluation> before_, after_;
  std::vector<std::string> warnings_;
};

// One line of log.jsonl.
OrderedJson progress_json(const Progress& progress);
OrderedJson evaluation_json(const Evaluation& evaluation);

}  // namespace hadal
