#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/files.h"
#include "train/metrics_log.h"
#include "train/run_data.h"
#include "train/trainer.h"

namespace hadal {

// A run from a recipe to a model folder: reads the data, makes the model, trains it, writes
//   OUT/lock              held by the one process that may write here
//   OUT/metrics.jsonl     a JSON object a step (train/metrics_log.h), and OUT/tensorboard
//   OUT/recipe.json       every key's value
//   OUT/run.json          sizes of the model, and what the machine can do
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
  // Operations per second this machine can do at most in the run's precision, measured by the
  // caller: steps then say what share of it they use.
  void set_peak(double flops_per_s) { peak_flops_per_s_ = flops_per_s; }
  // Goes on from a prompt with the model as it is; called every run.sample_every steps. It may not
  // change the model: a run is the same bits with and without it.
  using Sampler = std::function<std::string(Transformer& model, const std::string& prompt)>;
  void set_sampler(Sampler sampler) { sampler_ = std::move(sampler); }
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
  void check_room() const;
  MetricsLog open_log();
  void after_step(Progress& progress, MetricsLog& log);
  void save(MetricsLog& log);
  std::vector<SampleText> samples(const Progress& progress);

  TrainRecipe recipe_;
  fs::path out_;
  std::unique_ptr<FolderLock> lock_;
  int64_t saved_ = -1;  // step of the newest checkpoint
  RunData data_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<Evaluation> before_, after_;
  std::vector<std::string> warnings_;
  Sampler sampler_;
  double peak_flops_per_s_ = 0;
};

}  // namespace hadal
