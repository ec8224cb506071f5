// From a recipe's [model] table to a ModelConfig.
#include "model/config_fields.h"
#include "model/params.h"
#include "model/pretrained.h"
#include "train/recipe.h"

namespace hadal {
namespace {

// A released model's sizes are no sensible default for a model to be trained.
constexpr std::string_view kSizes =
    "hidden_size, num_hidden_layers, num_attention_heads, intermediate_size";
constexpr std::string_view kMlaSizes =
    "q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim";
constexpr std::string_view kMoeSizes =
    "n_routed_experts, n_shared_experts, num_experts_per_tok, moe_intermediate_size, "
    "first_k_dense_replace";

void require(const Json& model, std::string_view keys) {
  while (!keys.empty()) {
    const size_t comma = keys.find(", ");
    const std::string key(keys.substr(0, comma));
    HADAL_CHECK(model.contains(key), kUsage, "the recipe's model.", key,
                " is missing: sizes have no defaults");
    keys = comma == std::string_view::npos ? std::string_view() : keys.substr(comma + 2);
  }
}

// TOML has no null: where 0 stands for it inside, 0 stands for it in a recipe.
void restore_nulls(Json& model) {
  for (const ConfigField& field : config_fields()) {
    const auto found = model.find(field.name);
    if (found == model.end() || !field.null_means || !found->is_number_integer()) continue;
    if (*found == *field.null_means && *found == 0) *found = nullptr;
  }
}

// What a model that starts from another's weights may have its own of: nothing that a tensor's
// shape or meaning depends on.
constexpr std::string_view kMayDiffer =
    "rope_scaling, rope_parameters, rope_theta, max_position_embeddings, bos_token_id, "
    "eos_token_id, pad_token_id, num_nextn_predict_layers, torch_dtype, dtype";

void check_differences(const Json& model, const Json& folder, const std::string& where) {
  for (const auto& [key, value] : model.items()) {
    const auto found = folder.find(key);
    HADAL_CHECK(in_list(kMayDiffer, key) || (found != folder.end() && *found == value), kUsage,
                "the recipe's model.", key, " is ", json_brief(value), ", in ", where, " it is ",
                found == folder.end() ? "left out" : json_brief(*found),
                "; with run.init_from only these may differ: ", kMayDiffer);
  }
}

// Of two spellings the folder may have the other than the recipe: afterwards it has one, so that
// what the recipe says takes its place and no more.
void use_one_rope_spelling(Json& model) {
  const auto spelled = model.find("rope_parameters");
  if (spelled == model.end()) return;
  Json scaling = *spelled;
  model.erase(spelled);
  if (scaling.is_object() && scaling.contains("rope_theta")) {
    model["rope_theta"] = scaling.at("rope_theta");
    scaling.erase("rope_theta");
  }
  model["rope_scaling"] = scaling;
}

void fill(Json& model, const std::string& key, const std::optional<int64_t>& value) {
  if (value && !model.contains(key)) model[key] = *value;
}

}  // namespace

ModelConfig recipe_model(const TrainRecipe& recipe, const TokenizerFacts& tokenizer) {
  Json model = Json::object();
  std::string where = "the recipe's [model]";
  const auto config = recipe.model.find("config");
  const bool pretrained = !recipe.run.init_from.empty();
  if (pretrained) {
    HADAL_CHECK(config == recipe.model.end(), kUsage,
                "the recipe's model.config and run.init_from are both given, expected one of them");
    where = (fs::path(recipe.run.init_from) / "config.json").string();
    model = json_object(parse_json(read_file(where, 1 << 24), where), where);
    check_differences(recipe.model, model, where);
    use_one_rope_spelling(model);
  } else if (config != recipe.model.end()) {
    HADAL_CHECK(config->is_string(), kUsage, "the recipe's model.config is ", json_brief(*config),
                ", expected the path of a config.json");
    where = config->get<std::string>();
    model = parse_json(read_file(where, 1 << 24), where);
  }
  for (const auto& [key, value] : recipe.model.items()) {
    if (key != "config")
      model[pretrained && key == "rope_parameters" ? "rope_scaling" : key] = value;
  }
  if (!model.contains("architectures") && !model.contains("model_type")) {
    model["architectures"] = Json::array({"DeepseekV3ForCausalLM"});
  }
  if (config == recipe.model.end() && !pretrained) {
    require(model, kSizes);
    const std::string architecture = model["architectures"].dump();
    const bool deepseek = architecture.find("Deepseek") != std::string::npos;
    if (deepseek || model.value("hadal_attention", "") == "mla") require(model, kMlaSizes);
    if (deepseek) require(model, "n_routed_experts");
    if (model.value("n_routed_experts", 0) != 0) require(model, kMoeSizes);
  }
  restore_nulls(model);
  if (tokenizer.vocab_size > 0) fill(model, "vocab_size", tokenizer.vocab_size);
  fill(model, "bos_token_id", tokenizer.bos);
  fill(model, "eos_token_id", tokenizer.eos);
  fill(model, "pad_token_id", tokenizer.pad);
  fill(model, "max_position_embeddings", recipe.data.sequence_length);
  fill(model, "num_key_value_heads", model.value("num_attention_heads", int64_t{0}));
  HADAL_CHECK(
      model.contains("vocab_size"), kUsage,
      "the recipe's model.vocab_size is missing, and there is no tokenizer to take it from");
  ConfigWarnings warnings;  // unknown keys were refused; weights are ours, not a file's
  ModelConfig result = parse_config(model, where, warnings);
  if (pretrained && result.num_nextn_predict_layers > 0) {
    result.num_nextn_predict_layers =
        stored_modules(result, Checkpoint::open(fs::path(recipe.run.init_from)));
  }
  HADAL_CHECK(result.vocab_size >= tokenizer.vocab_size, kConfig, "model.vocab_size is ",
              result.vocab_size, ", the tokenizer has ", tokenizer.vocab_size, " ids");
  HADAL_CHECK(result.max_position_embeddings >= recipe.data.sequence_length, kUsage,
              "model.max_position_embeddings is ", result.max_position_embeddings,
              ", data.sequence_length ", recipe.data.sequence_length);
  return result;
}

std::vector<std::string> load_first_weights(Transformer& model, const TrainRecipe& recipe) {
  ConfigWarnings warnings;
  LoadOptions options;
  options.training = true;
  const auto files =
      std::make_shared<const Checkpoint>(Checkpoint::open(fs::path(recipe.run.init_from)));
  load_weights(model, files, options, warnings);
  return warnings.lines;
}

void prepare_training(Params& params, const TrainRecipe& recipe) {
  params.allocate_training();
  const bool scaled = recipe.optim.init == "scaled";
  params.initialise(static_cast<uint64_t>(recipe.run.seed), recipe.optim.init_std,
                    scaled ? FirstWeights::kScaled : FirstWeights::kNormal);
}

}  // namespace hadal
