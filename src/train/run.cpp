#include "train/run.h"

#include <algorithm>

#include "core/json.h"
#include "core/parallel.h"
#include "model/inspect.h"
#include "model/pretrained.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

TokenizerFacts facts_of(const Tokenizer& tokenizer) {
  return {tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()};
}

// What a report says of a run beside its recipe.
OrderedJson facts_json(const Inspection& model, double flops, double peak) {
  return {{"parameters", model.parts.total()}, {"mtp_parameters", model.mtp.total()},
          {"active_parameters", model.active}, {"kv_bytes_per_token", model.kv_bytes},
          {"training_flops_per_token", flops}, {"peak_flops_per_s", peak},
          {"threads", num_threads()}};
}

}  // namespace

TrainRun::TrainRun(const TrainRecipe& recipe, const TokenizeWatch& watch)
    : recipe_(recipe), out_(recipe.run.out) {
  if (recipe_.data.tokenizer.empty()) recipe_.data.tokenizer = recipe_.run.init_from;
  HADAL_CHECK(!recipe_.data.tokenizer.empty(), kUsage, "the recipe's data.tokenizer is missing");
  if (!out_.empty()) {
    make_folder(out_);
    lock_ = std::make_unique<FolderLock>(out_);
  }
  const Tokenizer tokenizer = Tokenizer::load(recipe_.data.tokenizer);
  const ModelConfig config = recipe_model(recipe, facts_of(tokenizer));
  data_ = open_run_data(recipe_, tokenizer, config.num_nextn_predict_layers, watch);
  model_ = std::make_unique<Transformer>(config);
  if (recipe.run.init_from.empty()) {
    prepare_training(model_->params(), recipe);
  } else {
    warnings_ = load_first_weights(*model_, recipe);
  }
  trainer_ = std::make_unique<Trainer>(*model_, recipe_, *data_.train, data_.held_out);
}

void TrainRun::check_fresh() const {
  HADAL_CHECK(!fs::exists(out_ / kMetricsFile) && checkpoint_steps(out_).empty(), kUsage,
              out_.string(), " holds a run already; --resume goes on with it");
}

std::optional<fs::path> TrainRun::resume(std::vector<std::string>& passed_over,
                                         std::span<const std::string> allowed) {
  std::optional<fs::path> newest = newest_checkpoint(out_, passed_over);
  if (newest) {
    load_checkpoint(*trainer_, *newest, allowed);
    saved_ = trainer_->state().step;
    set_aside_checkpoints_after(out_, saved_);
  }
  remove_unfinished_checkpoints(out_);
  return newest;
}

std::vector<SampleText> TrainRun::samples(const Progress& progress) {
  std::vector<SampleText> texts;
  const int64_t every = recipe_.run.sample_every;
  const bool due = every > 0 && (progress.step % every == 0 || trainer_->done());
  if (!sampler_ || !due || !progress.applied) return texts;
  for (const std::string& prompt : recipe_.run.sample_prompts) {
    texts.push_back({prompt, sampler_(*model_, prompt)});
  }
  return texts;
}

// At most the newest run.keep, the best, and the one being written; less what is there already.
void TrainRun::check_room() const {
  const int64_t every = recipe_.run.checkpoint_every;
  const int64_t left = std::max<int64_t>(recipe_.run.steps - trainer_->state().step, 0);
  const int64_t to_come = every > 0 ? left / every + 1 : 1;
  const auto there = static_cast<int64_t>(checkpoint_steps(out_).size());
  const int64_t most = recipe_.run.keep + (!data_.held_out.empty() ? 1 : 0) + 1;
  const int64_t sets = std::min(std::max<int64_t>(most - there, 1), to_come);
  const int64_t each = checkpoint_bytes(*trainer_, recipe_.data.tokenizer);
  const int64_t needed = sets * each + pretrained_bytes(*model_, DType::kF32);
  const int64_t room = free_bytes(out_);
  HADAL_CHECK(room >= needed, kResource, "the disk of ", out_.string(), " has ", room,
              " bytes free, expected at least ", needed, ": ", sets, " checkpoints of ", each,
              " bytes and the model; run.keep = ", recipe_.run.keep);
}

void TrainRun::save(MetricsLog& log) {
  log.sync();  // the steps that the checkpoint stands for
  save_checkpoint(*trainer_, out_, recipe_.data.tokenizer);
  saved_ = trainer_->state().step;
}

// Weights are as they were after a step that was not applied, but a checkpoint of it would push out
// those from before the trouble.
void TrainRun::after_step(Progress& progress, MetricsLog& log) {
  const int64_t every = recipe_.run.checkpoint_every;
  const bool due = every > 0 && progress.step % every == 0 && progress.applied;
  const auto& evaluation = trainer_->last_evaluation();
  const bool evaluated = evaluation && evaluation->step == progress.step;
  if (due && !data_.held_out.empty() && !evaluated) progress.evaluation = trainer_->evaluate();
  log.add(progress, samples(progress));
  if (due) save(log);
}

MetricsLog TrainRun::open_log() {
  const Inspection model = inspect_model(model_->config());
  const double flops = training_flops_per_token(model, recipe_.data.sequence_length);
  trainer_->set_peak(flops, peak_flops_per_s_);
  write_file_atomically(out_ / "recipe.json", recipe_json(recipe_).dump(2) + "\n");
  write_file_atomically(out_ / "run.json",
                        facts_json(model, flops, peak_flops_per_s_).dump(2) + "\n");
  return MetricsLog(out_, trainer_->state().step);
}

bool TrainRun::train(const std::function<bool(const Progress&)>& each) {
  make_folder(out_ / "checkpoints");
  MetricsLog log = open_log();
  { const AtomicFile probe(out_ / "checkpoints" / "probe"); }  // can it be written?
  check_room();
  if (!data_.held_out.empty()) before_ = trainer_->evaluate();
  if (before_ && before_->step == 0) log.add_start(*before_);
  trainer_->run([&](const Progress& done) {
    Progress progress = done;
    after_step(progress, log);
    const bool go_on = each(progress);
    HADAL_CHECK(progress.not_applied_in_a_row < recipe_.run.max_bad_steps, kNumbers,
                progress.not_applied_in_a_row, " steps in a row had a loss or gradient that was ",
                "not finite, the last at rows ", progress.row, " to ",
                progress.row + progress.rows - 1, " of the data; ",
                saved_ < 0 ? "there is no checkpoint"
                           : str("the newest checkpoint is of step ", saved_, ", before them"));
    return go_on;
  });
  const bool finished = trainer_->done();
  if (finished && !data_.held_out.empty()) {
    const auto& last = trainer_->last_evaluation();
    after_ = last && last->step == trainer_->state().step ? *last : trainer_->evaluate();
  }
  if (saved_ != trainer_->state().step) save(log);
  if (!finished) return false;
  SaveOptions options;
  if (is_fp8(find_precision(recipe_.run.precision))) options.dtype = DType::kF8E4M3;
  options.tokenizer = recipe_.data.tokenizer;
  save_pretrained(*model_, model_folder(), options);
  return true;
}

}  // namespace hadal
