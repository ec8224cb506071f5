// What must hold before anything is allocated for a model.
#include <type_traits>

#include "model/config_fields.h"

namespace hadal {
namespace {

constexpr double kMaxNumbers = 0x1p50;   // parameters; V3 has 2^39.3
constexpr double kMaxTensors = 1 << 20;  // V3 has 45 thousand

// Ranges of numbers and values of strings, key by key.
void check_fields(const ModelConfig& config, const std::string& where) {
  visit_config([&](const ConfigField& field, auto member) {
    if (!field_used(field, config)) return;
    const auto& value = config.*member;
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::string>) {
      HADAL_CHECK(in_list(field.values, value), kConfig, where, ": ", field.name, " is \"", value,
                  "\", supported: ", field.values);
    } else if constexpr (std::is_same_v<T, double> || std::is_same_v<T, int64_t>) {
      // MLA has no use for key-value heads and grouped attention none for 0 of them.
      const bool null = std::is_same_v<T, int64_t> && field.part != ConfigPart::kGqa &&
                        field.null_means == static_cast<int64_t>(value);
      const double number = static_cast<double>(value);
      HADAL_CHECK(null || (number >= field.min && number <= field.max), kConfig, where, ": ",
                  field.name, " is ", value, ", expected ", field.min, " .. ",
                  std::is_same_v<T, int64_t> ? str(int64_t(field.max)) : str(field.max));
    }
  });
}

void check_heads(const ModelConfig& c, const std::string& where) {
  const int64_t dim = c.rope_dim();
  HADAL_CHECK(dim % 2 == 0, kConfig, where, ": ",
              c.hadal_attention == "mla" ? "qk_rope_head_dim" : "head_dim", " is ", dim,
              ", expected an even number");
  HADAL_CHECK(c.num_attention_heads % c.hadal_rope_groups == 0, kConfig, where,
              ": hadal_rope_groups is ", c.hadal_rope_groups,
              ", expected a divisor of num_attention_heads ", c.num_attention_heads);
  if (c.hadal_attention == "mla") return;
  HADAL_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, kConfig, where,
              ": num_key_value_heads is ", c.num_key_value_heads,
              ", expected a divisor of num_attention_heads ", c.num_attention_heads);
}

void check_experts(const ModelConfig& c, const std::string& where) {
  if (c.n_routed_experts == 0) return;
  HADAL_CHECK(c.num_experts_per_tok <= c.n_routed_experts, kConfig, where,
              ": num_experts_per_tok is ", c.num_experts_per_tok,
              ", expected at most n_routed_experts ", c.n_routed_experts);
  const RouterShape shape = c.router_shape();
  HADAL_CHECK(shape.experts % shape.groups == 0, kConfig, where, ": n_group is ", shape.groups,
              ", expected a divisor of n_routed_experts ", shape.experts);
  HADAL_CHECK(shape.top_groups <= shape.groups, kConfig, where, ": topk_group is ",
              shape.top_groups, ", expected at most n_group ", shape.groups);
  const int64_t group = shape.experts / shape.groups;
  HADAL_CHECK(shape.top_groups * group >= shape.top_k, kConfig, where, ": num_experts_per_tok is ",
              shape.top_k, ", but topk_group ", shape.top_groups, " groups of ", group,
              " experts hold only ", shape.top_groups * group);
  HADAL_CHECK(shape.groups == 1 || group >= 2 || c.topk_method != "noaux_tc", kConfig, where,
              ": n_group is ", shape.groups, " for n_routed_experts ", shape.experts,
              ", but a group is scored by its two best experts");
}

void check_tokens(const ModelConfig& c, const std::string& where) {
  const auto check = [&](const char* key, int64_t id) {
    HADAL_CHECK(id >= 0 && id < c.vocab_size, kConfig, where, ": ", key, " is ", id,
                ", expected 0 .. vocab_size - 1 = ", c.vocab_size - 1);
  };
  if (c.bos_token_id) check("bos_token_id", *c.bos_token_id);
  if (c.pad_token_id) check("pad_token_id", *c.pad_token_id);
  for (int64_t id : c.eos_token_ids) check("eos_token_id", id);
}

// An upper bound of what would be listed and allocated, in floating point: nothing can overflow.
void check_size(const ModelConfig& c, const std::string& where) {
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  const double hidden = d(c.hidden_size), heads = d(c.num_attention_heads);
  double layer =
      3 * hidden * d(c.intermediate_size) +
      3 * hidden * d(c.moe_intermediate_size) * d(c.n_routed_experts + c.n_shared_experts) +
      hidden * d(c.n_routed_experts) + 4 * hidden * hidden;
  if (c.hadal_attention == "mla") {
    const double query = c.q_lora_rank > 0 ? d(c.q_lora_rank) : hidden;
    layer += hidden * d(c.q_lora_rank + c.kv_lora_rank + c.qk_rope_head_dim) +
             query * heads * d(c.qk_head_dim()) +
             d(c.kv_lora_rank) * heads * d(c.qk_nope_head_dim + c.v_head_dim) +
             hidden * heads * d(c.v_head_dim);
  } else {
    layer += 2 * hidden * d(c.head_dim) * d(c.num_attention_heads + c.num_key_value_heads);
  }
  const double layers = d(c.num_hidden_layers + c.num_nextn_predict_layers);
  const double numbers = 2 * d(c.vocab_size) * hidden + layers * layer;
  HADAL_CHECK(numbers <= kMaxNumbers, kConfig, where, ": a model of about ", numbers,
              " parameters, expected at most ", kMaxNumbers);
  const double tensors = layers * (3 * d(c.n_routed_experts) + 24);
  HADAL_CHECK(tensors <= kMaxTensors, kConfig, where, ": a model of about ", tensors,
              " tensors, expected at most ", kMaxTensors, " (num_hidden_layers ",
              c.num_hidden_layers, ", n_routed_experts ", c.n_routed_experts, ")");
}

}  // namespace

void check_config(const ModelConfig& config, const std::string& where) {
  check_fields(config, where);
  check_rope_scaling(config.rope_scaling, where + ": rope_scaling");
  check_heads(config, where);
  check_experts(config, where);
  check_tokens(config, where);
  const bool gelu = config.hadal_ffn == "gelu";
  HADAL_CHECK(gelu == (config.hidden_act == "gelu_pytorch_tanh"), kConfig, where,
              ": hidden_act is \"", config.hidden_act, "\", hadal_ffn \"", config.hadal_ffn,
              "\" has ", gelu ? "gelu_pytorch_tanh" : "silu");
  HADAL_CHECK(config.weight_block_size.empty() || config.weight_block_size.size() == 2, kConfig,
              where, ": weight_block_size has ", config.weight_block_size.size(),
              " numbers, expected two");
  for (int64_t size : config.weight_block_size) {
    HADAL_CHECK(size >= 1 && size <= (1 << 20), kConfig, where,
                ": quantization_config.weight_block_size has ", size, ", expected 1 .. 1048576");
  }
  check_size(config, where);
}

}  // namespace hadal
