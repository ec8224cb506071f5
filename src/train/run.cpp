#include "train/run.h"

#include <fstream>
#include <sstream>

#include "core/json.h"
#include "model/pretrained.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

TokenizerFacts facts_of(const Tokenizer& tokenizer) {
  return {tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()};
}

TokenSourceOptions source_options(const TrainRecipe& recipe, int64_t mtp_depth, bool shuffle) {
  return {recipe.data.sequence_length, mtp_depth, static_cast<uint64_t>(recipe.run.seed), shuffle,
          recipe.data.rows == "documents"};
}

}  // namespace

TrainRun::TrainRun(const TrainRecipe& recipe) : recipe_(recipe), out_(recipe.run.out) {
  if (recipe_.data.tokenizer.empty()) recipe_.data.tokenizer = recipe_.run.init_from;
  HADAL_CHECK(!recipe_.data.tokenizer.empty(), kUsage, "the recipe's data.tokenizer is missing");
  HADAL_CHECK(!recipe.data.train.empty(), kUsage, "the recipe's data.train names no files");
  const Tokenizer tokenizer = Tokenizer::load(recipe_.data.tokenizer);
  const ModelConfig config = recipe_model(recipe, facts_of(tokenizer));

  const auto seed = static_cast<uint64_t>(recipe.run.seed);
  TokenDocuments documents = tokenize_files(tokenizer, expand_paths(recipe.data.train));
  TokenDocuments held_out;
  if (!recipe.data.valid.empty()) {
    held_out = tokenize_files(tokenizer, expand_paths(recipe.data.valid));
  } else if (recipe.data.valid_share > 0) {
    held_out = split_documents(documents, recipe.data.valid_share, seed);
  }
  const int64_t depth = config.num_nextn_predict_layers;
  train_ = std::make_unique<TokenSource>(std::move(documents), source_options(recipe, depth, true));
  if (held_out.count() > 0) {
    valid_ =
        std::make_unique<TokenSource>(std::move(held_out), source_options(recipe, depth, false));
  }
  model_ = std::make_unique<Transformer>(config);
  if (recipe.run.init_from.empty()) {
    prepare_training(model_->params(), recipe);
  } else {
    warnings_ = load_first_weights(*model_, recipe);
  }
  trainer_ = std::make_unique<Trainer>(*model_, recipe_, *train_, valid_.get());
}

void TrainRun::check_fresh() const {
  HADAL_CHECK(!fs::exists(out_ / "log.jsonl"), kUsage, out_.string(),
              " holds a run already; --resume goes on with it");
}

std::optional<fs::path> TrainRun::resume(std::vector<std::string>& passed_over) {
  std::optional<fs::path> newest = newest_checkpoint(out_, passed_over);
  if (newest) load_checkpoint(*trainer_, *newest);
  remove_unfinished_checkpoints(out_);
  cut_log();
  return newest;
}

// Steps after the checkpoint will be done again; the last line may have been cut short.
void TrainRun::cut_log() const {
  const fs::path path = out_ / "log.jsonl";
  if (!fs::exists(path)) return;
  std::istringstream lines(read_file(path));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = Json::parse(line, nullptr, false);
    if (entry.is_object() && entry.value("step", int64_t{0}) <= trainer_->state().step) {
      kept += line + "\n";
    }
  }
  write_file_atomically(path, kept);
}

void TrainRun::train(const std::function<bool(const Progress&)>& each) {
  make_folder(out_);
  write_file_atomically(out_ / "recipe.json", recipe_json(recipe_).dump(2) + "\n");
  std::ofstream log(out_ / "log.jsonl", std::ios::app);
  HADAL_CHECK(log.good(), kIo, "cannot write ", (out_ / "log.jsonl").string());
  if (valid_ != nullptr) before_ = trainer_->evaluate();
  int64_t saved = -1;
  trainer_->run([&](const Progress& progress) {
    log << progress_json(progress).dump() << std::endl;
    const int64_t every = recipe_.run.checkpoint_every;
    if (every > 0 && progress.step % every == 0) {
      save_checkpoint(*trainer_, out_, recipe_.data.tokenizer);
      saved = progress.step;
    }
    return each(progress);
  });
  HADAL_CHECK(log.good(), kIo, "cannot write ", (out_ / "log.jsonl").string());
  if (valid_ != nullptr) after_ = trainer_->evaluate();
  if (saved != trainer_->state().step) {
    save_checkpoint(*trainer_, out_, recipe_.data.tokenizer);
  }
  SaveOptions options;
  if (is_fp8(find_precision(recipe_.run.precision))) options.dtype = DType::kF8E4M3;
  options.tokenizer = recipe_.data.tokenizer;
  save_pretrained(*model_, model_folder(), options);
}

OrderedJson evaluation_json(const Evaluation& e) {
  OrderedJson json{{"loss", e.loss},
                   {"bits_per_byte", e.bits_per_byte},
                   {"tokens", e.tokens},
                   {"bytes", e.bytes},
                   {"max_vio", e.max_vio},
                   {"max_vio_by_layer", e.violations},
                   {"loss_by_position", e.loss_by_position}};
  if (!e.mtp_loss.empty()) {
    json["mtp_loss"] = e.mtp_loss;
    json["acceptance"] = e.acceptance;
  }
  return json;
}

OrderedJson progress_json(const Progress& p) {
  OrderedJson json{{"step", p.step},
                   {"tokens", p.tokens},
                   {"loss", p.loss},
                   {"mtp_loss", p.mtp_loss},
                   {"bits_per_byte", p.bits_per_byte},
                   {"rows", p.rows},
                   {"lr", p.lr},
                   {"gradient_norm", p.gradient_norm},
                   {"max_vio", p.max_vio},
                   {"tokens_per_s", p.tokens_per_s},
                   {"applied", p.applied}};
  if (p.evaluation) json["evaluation"] = evaluation_json(*p.evaluation);
  return json;
}

}  // namespace hadal
