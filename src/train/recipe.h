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

namespace hadal {

class Params;

// What a run is made of. The values here are the defaults; recipe_keys() is the one list of the
// names, ranges and meanings that a recipe file, --set and --explain know.
struct TrainRecipe {
  struct {
    int64_t steps = 1000;
    int64_t seed = 1;
    int64_t checkpoint_every = 0;  // 0: none but the last
    int64_t eval_every = 100;      // 0: only before and after
    int64_t keep = 2;
    std::string out;
    int64_t threads = 0;  // 0: all CPUs
    std::string precision = "fp32";
    std::string fp8_gradient_tiles = "1x128";
  } run;
  struct {
    std::vector<std::string> train, valid;
    double valid_share = 0;
    std::string tokenizer;
    int64_t sequence_length = 512;
    std::string rows = "stream";
    int64_t eval_sequences = 32;  // rows of held-out text an evaluation reads; 0: all
  } data;
  struct {
    int64_t sequences = 8;
    int64_t micro = 0;  // sequences of one pass; 0: all
  } batch;
  struct {
    std::string schedule = "wsd";
    double lr = 1e-3, min_lr = 1e-4;
    int64_t warmup_steps = 20;
    double decay_share = 0.25;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1;
    std::string init = "normal";
    double init_std = 0.02;
  } optim;
  struct {
    double gamma = 0.001, sequence_alpha = 1e-4, batch_alpha = 0;
    double freeze_share = 0;  // gamma is 0 in this last share of the steps
  } balance;
  struct {
    double lambda = 0.3;
  } mtp;
  // The table [model]: keys of config.json (or `config` = a path); parse_recipe checks the names.
  Json model = Json::object();
};

using RecipeMember =
    std::variant<int64_t& (*)(TrainRecipe&), double& (*)(TrainRecipe&),
                 std::string& (*)(TrainRecipe&), std::vector<std::string>& (*)(TrainRecipe&)>;
struct RecipeKey {
  std::string_view path;  // "run.steps"
  RecipeMember member;
  double min = 0, max = 0;       // of numbers, both allowed
  std::string_view values = {};  // of strings: "a, b, c"; empty: any
  std::string_view doc;
  bool may_change = false;  // a resumed run may have another value
};
std::span<const RecipeKey> recipe_keys();

// A recipe from TOML text, then `sets` ("run.steps=100", values in TOML or a bare word). `name`
// stands for the file in messages. Error{kUsage} names line, key and value and what was expected;
// for an unknown key, the nearest there is. Cross-checks included (check_recipe).
TrainRecipe parse_recipe(std::string_view toml, const std::string& name,
                         std::span<const std::string> sets = {});
TrainRecipe load_recipe(const fs::path& path, std::span<const std::string> sets = {});
void check_recipe(const TrainRecipe& recipe);

// Every key with type, value, range and meaning, as text for --explain.
std::string explain_recipe(const TrainRecipe& recipe);
// Every key's value, to be saved with a run.
OrderedJson recipe_json(const TrainRecipe& recipe);
// The first key that differs and may not when a run goes on; empty when it may go on.
std::string resume_obstacle(const TrainRecipe& now, const Json& saved);

// The model of a recipe. What the table leaves out and the tokenizer knows is filled in:
// vocab_size, bos, eos and pad ids; max_position_embeddings from data.sequence_length. Sizes have
// no defaults: Error{kUsage} names the one that is missing.
struct TokenizerFacts {
  int64_t vocab_size = 0;
  std::optional<int64_t> bos, eos, pad;
};
ModelConfig recipe_model(const TrainRecipe& recipe, const TokenizerFacts& tokenizer);

// Memory for training, and the first weights: run.seed, optim.init and optim.init_std.
void prepare_training(Params& params, const TrainRecipe& recipe);

}  // namespace hadal
