// Writing config.json, and what the rest of the model asks of a config.
#include "model/config.h"

#include "model/config_fields.h"

namespace hadal {
namespace {

// What a class must further have before transformers loads what it describes.
bool loads_in_transformers(const ClassInfo& info, const ModelConfig& c) {
  if (info.bit == kDeepseekV2 || info.bit == kLlama) {
    if (c.hidden_size % c.num_attention_heads != 0) return false;
  }
  // A group is scored by its two best experts, in a model without groups too.
  if (info.bit == kDeepseekV3 && c.n_routed_experts > 0) return c.n_routed_experts / c.n_group >= 2;
  return true;
}

bool describes(const ClassInfo& info, const ModelConfig& config) {
  return info.bit != kHadal && class_misfit(info, config).empty() &&
         loads_in_transformers(info, config);
}

// DeepSeek's classes have no way to say "dense" but with expert keys that no layer reads.
ModelConfig with_unread_experts(ModelConfig config, ConfigClass bit) {
  const ModelConfig defaults = class_defaults(bit);
  config.scoring_func = defaults.scoring_func;
  config.topk_method = defaults.topk_method;
  config.norm_topk_prob = defaults.norm_topk_prob;
  config.n_routed_experts = config.num_experts_per_tok = config.n_shared_experts = 1;
  config.n_group = config.topk_group = config.moe_layer_freq = 1;
  config.moe_intermediate_size = config.intermediate_size;
  config.first_k_dense_replace = config.num_hidden_layers + config.num_nextn_predict_layers;
  config.routed_scaling_factor = 1;
  return config;
}

OrderedJson quantization_json(const ModelConfig& config) {
  OrderedJson out;
  out["activation_scheme"] = "dynamic";
  out["fmt"] = "e4m3";
  out["quant_method"] = "fp8";
  out["weight_block_size"] = config.weight_block_size;
  if (!config.scale_fmt.empty()) out["scale_fmt"] = config.scale_fmt;
  return out;
}

}  // namespace

std::string architecture_for(const ModelConfig& config) {
  const ClassInfo* own = find_class(config.architecture);
  if (own != nullptr && describes(*own, config)) return config.architecture;
  for (const ClassInfo& info : config_classes()) {
    if (describes(info, config)) return std::string(info.name);
  }
  return "HadalForCausalLM";
}

OrderedJson config_json(const ModelConfig& model) {
  const ClassInfo& info = *find_class(architecture_for(model));
  ModelConfig config = model;
  const bool deepseek = (info.bit & kDeepseek) != 0;
  if (deepseek && config.n_routed_experts == 0) config = with_unread_experts(model, info.bit);
  if (deepseek) config.num_key_value_heads = config.num_attention_heads;
  const ModelConfig own_defaults = class_defaults(kHadal);

  OrderedJson out;
  out["architectures"] = OrderedJson::array({info.name});
  out["model_type"] = info.model_type;
  for (const ConfigField& field : config_fields()) {
    const bool needed = field_used(field, config) || (deepseek && field.part == ConfigPart::kGqa);
    if ((field.classes & info.bit) == 0 || !needed) continue;
    const Json value = field_value(field, config);
    if (field.classes == kHadal && value == field_value(field, own_defaults)) continue;
    if (field.name == "rope_scaling") {
      out["rope_scaling"] = rope_json(config.rope_scaling);
    } else {
      out[std::string(field.name)] = value;
    }
  }
  if (!config.weight_block_size.empty()) out["quantization_config"] = quantization_json(config);
  if (!config.hadal_format.empty()) {
    out["quantization_config"] = {{"quant_method", "hadal"}, {"format", config.hadal_format}};
  }
  return out;
}

OrderedJson generation_config_json(const ModelConfig& config) {
  OrderedJson out;
  out["_from_model_config"] = true;
  for (const ConfigField& field : config_fields()) {
    if (!field.name.ends_with("_token_id")) continue;
    const Json value = field_value(field, config);
    if (!value.is_null()) out[std::string(field.name)] = value;
  }
  return out;
}

RouterShape ModelConfig::router_shape() const {
  RouterShape shape;
  shape.experts = n_routed_experts;
  shape.top_k = num_experts_per_tok;
  // "greedy" means that there are no groups, whatever n_group says.
  shape.groups = topk_method == "greedy" ? 1 : n_group;
  shape.top_groups = topk_method == "greedy" ? 1 : topk_group;
  shape.scoring =
      scoring_func == "softmax" ? RouterShape::Scoring::kSoftmax : RouterShape::Scoring::kSigmoid;
  shape.group_score = topk_method == "noaux_tc" ? RouterShape::GroupScore::kTopTwoSum
                                                : RouterShape::GroupScore::kMax;
  shape.norm_topk_prob = norm_topk_prob;
  shape.routed_scaling_factor = static_cast<float>(routed_scaling_factor);
  return shape;
}

}  // namespace hadal
