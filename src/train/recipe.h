#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "model/config.h"
#include "train/data_sources.h"
#include "train/schedule.h"

namespace hadal {

class Params;
class Transformer;

// Of the keys and what they mean; a recipe may say for which it was written.
inline constexpr int64_t kRecipeVersion = 1;

// What a run is made of. The values here are the defaults; recipe_keys() is the one list of the
// names, ranges and meanings that a recipe file, --set and --explain know.
struct TrainRecipe {
  int64_t version = kRecipeVersion;
  struct {
    int64_t steps = 1000;
    int64_t tokens = 0;  // if not 0: parse_recipe sets steps, the least that read so many
    int64_t seed = 1;
    int64_t checkpoint_every = 0;  // 0: none but the last
    int64_t eval_every = 100;      // 0: only before and after
    int64_t keep = 2;
    int64_t max_bad_steps = 10;
    std::string out;
    int64_t threads = 0;  // 0: all CPUs
    std::string precision = "fp32";
    std::string fp8_gradient_tiles = "1x128";
    std::string init_from;     // folder of a model to start from; empty: optim.init
    int64_t eval_buckets = 2;  // parts of a row whose loss an evaluation tells apart
    int64_t layers_every = 10;
    int64_t sample_every = 0;  // 0: no samples
    int64_t sample_tokens = 64;
    std::vector<std::string> sample_prompts;
  } run;
  struct {
    std::vector<std::string> train, valid;
    double valid_share = 0;
    std::string tokenizer;
    int64_t sequence_length = 512;
    std::string rows = "stream";
    int64_t eval_sequences = 32;  // rows of each held-out text an evaluation reads; 0: all
    DataSources source;           // if not empty, instead of train and valid
    std::string cache;            // folder of tokenised text; empty: default_token_cache()
    double fim_rate = 0;
    bool document_mask = false;

    // train and valid are the one source there is when no other is named.
    DataSources all_sources() const {
      return !source.empty() || train.empty() ? source : DataSources{{"", train, valid, 1}};
    }
  } data;
  struct {
    int64_t sequences = 8;
    int64_t micro = 0;  // sequences of one pass; 0: all
    Phases phases;      // here and below: if not empty, instead of the short keys
  } batch;
  struct {
    std::string schedule = "wsd";
    double lr = 1e-3, min_lr = 1e-4;
    int64_t warmup_steps = 20;
    double decay_share = 0.25;
    Phases lr_phases;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, clip = 1;
    double weight_decay = 0.1;  // of the Linears' matrices
    double embedding_decay = 0, head_decay = 0, router_decay = 0, norm_decay = 0, bias_decay = 0;
    std::string moments = "fp32";
    double ema = 0;  // memory of the averaged weights; 0: none are kept
    std::string init = "normal";
    double init_std = 0.02;
  } optim;
  struct {
    double gamma = 0.001, sequence_alpha = 1e-4, batch_alpha = 0;
    double freeze_share = 0;  // gamma is 0 in this last share of the steps
    Phases gamma_phases, sequence_alpha_phases;
  } balance;
  struct {
    double lambda = 0.3;
    Phases lambda_phases;
  } mtp;
  // The table [model]: keys of config.json (or `config` = a path); parse_recipe checks the names.
  Json model = Json::object();
};

using RecipeMember =
    std::variant<int64_t& (*)(TrainRecipe&), double& (*)(TrainRecipe&),
                 std::string& (*)(TrainRecipe&), std::vector<std::string>& (*)(TrainRecipe&),
                 Phases& (*)(TrainRecipe&), bool& (*)(TrainRecipe&),
                 DataSources& (*)(TrainRecipe&)>;
struct RecipeKey {
  std::string_view path;  // "run.steps"
  RecipeMember member;
  double min = 0, max = 0;       // of numbers and of the values of phases, both allowed
  std::string_view values = {};  // of strings: "a, b, c"; empty: any
  std::string_view doc;
  bool may_change = false;  // a resumed run may have another value
};
std::span<const RecipeKey> recipe_keys();
// Phases say all there is to say of a number: the short keys that may not stand beside them.
struct PhasesInstead {
  std::string_view phases, short_keys;  // "a, b"
};
std::span<const PhasesInstead> phases_instead();

// A recipe from TOML text, then `sets` ("run.steps=100", values in TOML or a bare word). `name`
// stands for the file in messages. Error{kUsage} names line, key and value and what was expected;
// for an unknown key, the nearest there is. Cross-checks included (check_recipe). Error{kFormat}
// for a recipe of another version.
TrainRecipe parse_recipe(std::string_view toml, const std::string& name,
                         std::span<const std::string> sets = {});
TrainRecipe load_recipe(const fs::path& path, std::span<const std::string> sets = {});
void check_recipe(const TrainRecipe& recipe);

// Every key with type, value, range and meaning, as text for --explain.
std::string explain_recipe(const TrainRecipe& recipe);
// Every key's value, to be saved with a run.
OrderedJson recipe_json(const TrainRecipe& recipe);

// What differs from the recipe a checkpoint was made with: recipe.json, as recipe_json made it.
// Keys that may change are left out; those of [model] are "model.x".
struct RecipeChange {
  std::string key;
  std::string before, now;  // values; empty: there is no such key, or was none
  bool operator==(const RecipeChange&) const = default;
};
std::vector<RecipeChange> recipe_changes(const TrainRecipe& now, const Json& saved);
// Error{kUsage} names the first change whose key is not among `allowed` ("model" allows all of
// [model]), or a key that is allowed but unknown.
void check_resume(const TrainRecipe& now, const Json& saved, std::span<const std::string> allowed);

// The model of a recipe. What the table leaves out and the tokenizer knows is filled in:
// vocab_size, bos, eos and pad ids; max_position_embeddings from data.sequence_length. Sizes have
// no defaults: Error{kUsage} names the one that is missing. With run.init_from they are the
// folder's, and [model] may only say what leaves its tensors as they are (kMayDiffer), such as
// rope_scaling and max_position_embeddings; multi-token prediction that the folder's weights do not
// hold is left out.
struct TokenizerFacts {
  int64_t vocab_size = 0;
  std::optional<int64_t> bos, eos, pad;
};
ModelConfig recipe_model(const TrainRecipe& recipe, const TokenizerFacts& tokenizer);

// Memory for training, and the first weights: run.seed, optim.init and optim.init_std.
void prepare_training(Params& params, const TrainRecipe& recipe);

// The same for a recipe with run.init_from: the weights of that folder, ours or anybody's, in FP32.
// `model` is made of recipe_model. Returns what is worth knowing, a line each. Errors are those of
// load_weights: a tensor is missing, has another shape, or holds NaN or infinity; each names it.
std::vector<std::string> load_first_weights(Transformer& model, const TrainRecipe& recipe);

}  // namespace hadal
