#include "model/config_fields.h"

#include <algorithm>
#include <array>
#include <sstream>
#include <type_traits>

namespace hadal {
namespace {

using M = ModelConfig;
using S = RopeScaling;
using enum ConfigPart;

constexpr std::array kClasses{
    ClassInfo{kDeepseekV3, "DeepseekV3ForCausalLM", "deepseek_v3"},
    ClassInfo{kDeepseekV2, "DeepseekV2ForCausalLM", "deepseek_v2"},
    ClassInfo{kOlmo2, "Olmo2ForCausalLM", "olmo2"},
    ClassInfo{kLlama, "LlamaForCausalLM", "llama"},
    ClassInfo{kHadal, "HadalForCausalLM", "hadal"},
};

// Beyond these a config is a mistake or an attack; each is far above any model there is.
constexpr double kMaxWidth = 1 << 20;   // hidden sizes, ranks
constexpr double kMaxHeads = 1 << 16;   // heads, head sizes, experts
constexpr double kMaxTokens = 1 << 24;  // vocabulary, positions
constexpr double kMaxLayers = 4096;

constexpr ConfigField kFields[] = {
    {"vocab_size", &M::vocab_size, kEveryClass, kAll, "tokens, padding included", 1, kMaxTokens},
    {"hidden_size", &M::hidden_size, kEveryClass, kAll, "width of the residual stream", 1,
     kMaxWidth},
    {"intermediate_size", &M::intermediate_size, kEveryClass, kAll, "width of dense MLPs", 1,
     kMaxWidth},
    {"moe_intermediate_size", &M::moe_intermediate_size, kDeepseek | kHadal, kMoe,
     "width of one expert", 1, kMaxWidth},
    {"num_hidden_layers", &M::num_hidden_layers, kEveryClass, kAll, "layers, MTP modules apart", 1,
     kMaxLayers},
    {"num_nextn_predict_layers",
     &M::num_nextn_predict_layers,
     kDeepseekV3 | kHadal,
     kAll,
     "multi-token prediction modules, layers num_hidden_layers and up",
     0,
     64,
     0,
     {},
     "num_mtp_layers"},
    {"num_attention_heads", &M::num_attention_heads, kEveryClass, kAll, "query heads", 1,
     kMaxHeads},
    {"num_key_value_heads", &M::num_key_value_heads, kEveryClass, kGqa,
     "key and value heads; left out: as many as query heads", 1, kMaxHeads, 0},
    {"head_dim", &M::head_dim, kOlmo2 | kLlama | kHadal, kGqa,
     "numbers of a head; left out: hidden_size / num_attention_heads", 1, kMaxHeads, 0},
    {"n_shared_experts", &M::n_shared_experts, kDeepseek | kHadal, kMoe,
     "experts that every token takes, as one MLP", 0, 1024, 0},
    {"n_routed_experts",
     &M::n_routed_experts,
     kDeepseek | kHadal,
     kMoe,
     "experts to choose from; null: all layers are dense",
     1,
     kMaxHeads,
     0,
     {},
     "num_experts"},
    {"num_experts_per_tok", &M::num_experts_per_tok, kDeepseek | kHadal, kMoe,
     "experts a token takes", 1, kMaxHeads},
    {"first_k_dense_replace", &M::first_k_dense_replace, kDeepseek | kHadal, kMoe,
     "layers before the first MoE layer", 0, kMaxWidth, 0},
    {"moe_layer_freq", &M::moe_layer_freq, kDeepseek | kHadal, kMoe, "every so many layers are MoE",
     1, kMaxLayers},
    {"n_group", &M::n_group, kDeepseek | kHadal, kMoe, "groups of experts", 1, kMaxHeads, 1},
    {"topk_group", &M::topk_group, kDeepseek | kHadal, kMoe, "groups a token may use", 1, kMaxHeads,
     1},
    {"topk_method",
     &M::topk_method,
     kDeepseek | kHadal,
     kMoe,
     "choice of experts: noaux_tc by biased scores, a group scored by its two best; greedy by "
     "scores, without groups; group_limited_greedy by scores, a group scored by its best",
     0,
     0,
     {},
     "noaux_tc, greedy, group_limited_greedy"},
    {"scoring_func",
     &M::scoring_func,
     kDeepseek | kHadal,
     kMoe,
     "what makes logits scores",
     0,
     0,
     {},
     "sigmoid, softmax"},
    {"norm_topk_prob", &M::norm_topk_prob, kDeepseek | kHadal, kMoe,
     "gate values are divided by their sum", 0, 0, 0},
    {"routed_scaling_factor", &M::routed_scaling_factor, kDeepseek | kHadal, kMoe,
     "gate values are multiplied by this", 1e-6, 1e6},
    {"q_lora_rank", &M::q_lora_rank, kDeepseek | kHadal, kMla,
     "width of the compressed query; null: not compressed", 1, kMaxWidth, 0},
    {"kv_lora_rank", &M::kv_lora_rank, kDeepseek | kHadal, kMla,
     "width of the compressed keys and values", 1, kMaxWidth},
    {"qk_nope_head_dim", &M::qk_nope_head_dim, kDeepseek | kHadal, kMla,
     "numbers of a query or key head without position", 1, kMaxHeads},
    {"qk_rope_head_dim", &M::qk_rope_head_dim, kDeepseek | kHadal, kMla,
     "numbers of a query or key head that rotate", 1, kMaxHeads},
    {"v_head_dim", &M::v_head_dim, kDeepseek | kHadal, kMla, "numbers of a value head", 1,
     kMaxHeads},
    {"hidden_act",
     &M::hidden_act,
     kEveryClass,
     kAll,
     "activation of the MLPs",
     0,
     0,
     {},
     "silu, gelu_pytorch_tanh"},
    {"max_position_embeddings", &M::max_position_embeddings, kEveryClass, kAll,
     "longest context in tokens", 1, kMaxTokens},
    {"initializer_range", &M::initializer_range, kEveryClass, kAll,
     "standard deviation of fresh weights", 0, 1},
    {"rms_norm_eps", &M::rms_norm_eps, kEveryClass, kAll,
     "epsilon of norms, but for those inside MLA, where it is 1e-6", 1e-30, 1},
    {"rope_theta", &M::rope_theta, kEveryClass, kAll,
     "base of the rotation frequencies; also inside rope_scaling", 1.001, 1e18},
    {"rope_scaling",
     &M::rope_scaling,
     kEveryClass,
     kAll,
     "context extension, below; null: none",
     0,
     0,
     {},
     {},
     "rope_parameters"},
    {"rope_interleave", &M::rope_interleave, kDeepseekV3 | kHadal, kAll,
     "numbers 2i and 2i+1 are a pair; else i and i + d/2", 0, 0, 0},
    {"attention_bias", &M::attention_bias, kEveryClass, kAll, "projections have biases"},
    {"mlp_bias", &M::mlp_bias, kDeepseekV2 | kLlama | kHadal, kAll, "MLPs have biases"},
    {"tie_word_embeddings", &M::tie_word_embeddings, kEveryClass, kAll,
     "the output head is the embedding"},
    {"torch_dtype",
     &M::dtype,
     kEveryClass,
     kAll,
     "how weights are stored; left out: float32",
     0,
     0,
     {},
     "float32, bfloat16, float16",
     "dtype"},
    {"bos_token_id", &M::bos_token_id, kEveryClass, kAll, "begin of text"},
    {"eos_token_id", &M::eos_token_ids, kEveryClass, kAll, "end of text: one id or several"},
    {"pad_token_id", &M::pad_token_id, kEveryClass, kAll, "padding; -1 is none"},
    {"hadal_attention",
     &M::hadal_attention,
     kHadal,
     kAll,
     "attention of all layers",
     0,
     0,
     {},
     "mla, gqa"},
    {"hadal_ffn", &M::hadal_ffn, kHadal, kAll, "dense MLPs", 0, 0, {}, "swiglu, gelu"},
    {"hadal_norm",
     &M::hadal_norm,
     kHadal,
     kAll,
     "norms outside MLA",
     0,
     0,
     {},
     "rmsnorm, layernorm"},
    {"hadal_norm_placement",
     &M::hadal_norm_placement,
     kHadal,
     kAll,
     "before a sub-layer, or on its output (OLMo 2)",
     0,
     0,
     {},
     "pre, post"},
    {"hadal_qk_norm",
     &M::hadal_qk_norm,
     kHadal,
     kGqa,
     "norm of queries and keys: over all heads at once (OLMo 2), or each",
     0,
     0,
     {},
     "none, whole, head"},
    {"hadal_rope_groups", &M::hadal_rope_groups, kHadal, kAll,
     "head groups with frequency bands of their own", 1, kMaxHeads},
};

constexpr RopeField kRopeFields[] = {
    {"factor", &S::factor, "linear, yarn, llama3", "linear, yarn, llama3",
     "how much longer the context is; null: max_position_embeddings / original"},
    {"original_max_position_embeddings",
     &S::original_max_position_embeddings,
     "yarn, llama3",
     {},
     "context before the extension; left out: max_position_embeddings"},
    {"beta_fast", &S::beta_fast, "yarn", {}, "rotations above which nothing is interpolated"},
    {"beta_slow", &S::beta_slow, "yarn", {}, "rotations below which all is interpolated"},
    {"mscale", &S::mscale, "yarn", {}, "with mscale_all_dim: their quotient scales cos and sin"},
    {"mscale_all_dim",
     &S::mscale_all_dim,
     "linear, yarn, llama3",
     {},
     "MLA: the softmax scale is multiplied by (0.1 mscale_all_dim ln(factor) + 1)^2"},
    {"attention_factor",
     &S::attention_factor,
     "yarn",
     {},
     "scales cos and sin instead of what mscale says"},
    {"truncate", &S::truncate, "yarn", {}, "the range between the betas ends at whole pairs"},
    {"low_freq_factor", &S::low_freq_factor, "llama3", "llama3",
     "rotations below which a frequency is divided by factor"},
    {"high_freq_factor", &S::high_freq_factor, "llama3", "llama3",
     "rotations above which a frequency is kept"},
};

// What a class has of a key that could say more.
struct ClassValues {
  unsigned classes;
  std::string_view key;
  std::string_view values;
};
constexpr std::array kClassValues{
    ClassValues{kReleased, "hidden_act", "silu"},
    ClassValues{kDeepseek, "moe_layer_freq", "1"},
    ClassValues{kDeepseekV3, "scoring_func", "sigmoid"},
    ClassValues{kDeepseekV3, "topk_method", "noaux_tc"},
    ClassValues{kDeepseekV2, "scoring_func", "softmax"},
    ClassValues{kDeepseekV2, "topk_method", "greedy, group_limited_greedy"},
    // The released code divides without scaling then, transformers does not divide; no model has
    // it.
    ClassValues{kDeepseekV2, "norm_topk_prob", "false"},
};

// Keys of training, of other programs' caches, or that restate what others say.
constexpr std::string_view kHarmless =
    "architectures, model_type, auto_map, transformers_version, torchscript, _name_or_path, "
    "use_cache, attention_dropout, embd_pdrop, resid_pdrop, hidden_dropout, pretraining_tp, "
    "aux_loss_alpha, seq_aux, ep_size, router_aux_loss_coef, output_router_logits, "
    "output_attentions, output_hidden_states, return_dict, chunk_size_feed_forward, "
    "is_encoder_decoder, id2label, label2id, num_labels, problem_type, tokenizer_class, "
    "_attn_implementation, _attn_implementation_autoset, use_bfloat16, tf_legacy_loss, "
    "experts_implementation, _experts_implementation, name_or_path";
constexpr std::string_view kHarmlessMla = "head_dim, qk_head_dim";

std::string brief(const ConfigField& field, const ModelConfig& config) {
  return json_brief(field_value(field, config));
}

// A string without its quotes, as it stands in lists of values.
std::string bare(const ConfigField& field, const ModelConfig& config) {
  const Json value = field_value(field, config);
  return value.is_string() ? value.get<std::string>() : json_brief(value);
}

}  // namespace

std::span<const ClassInfo> config_classes() {
  return kClasses;
}

const ClassInfo* find_class(std::string_view name) {
  const auto* found = std::ranges::find(kClasses, name, &ClassInfo::name);
  return found == kClasses.end() ? nullptr : found;
}

std::span<const ConfigField> config_fields() {
  return kFields;
}

std::span<const RopeField> rope_fields() {
  return kRopeFields;
}

ModelConfig class_defaults(ConfigClass bit) {
  ModelConfig c;
  for (const ClassInfo& info : kClasses) {
    if (info.bit == bit) c.architecture = info.name;
  }
  switch (bit) {
    case kDeepseekV3:
      c.vocab_size = 129280, c.hidden_size = 7168, c.intermediate_size = 18432;
      c.moe_intermediate_size = 2048, c.num_hidden_layers = 61, c.num_attention_heads = 128;
      c.n_shared_experts = 1, c.n_routed_experts = 256, c.routed_scaling_factor = 2.5;
      c.kv_lora_rank = 512, c.q_lora_rank = 1536, c.qk_rope_head_dim = 64, c.v_head_dim = 128;
      c.qk_nope_head_dim = 128, c.n_group = 8, c.topk_group = 4, c.num_experts_per_tok = 8;
      c.first_k_dense_replace = 3, c.max_position_embeddings = 4096;
      c.bos_token_id = 0, c.eos_token_ids = {1};
      break;
    case kDeepseekV2:
      c.vocab_size = 102400, c.hidden_size = 4096, c.intermediate_size = 11008;
      c.num_hidden_layers = 32, c.num_attention_heads = 32, c.max_position_embeddings = 2048;
      c.kv_lora_rank = 512, c.q_lora_rank = 1536, c.n_routed_experts = 64, c.n_shared_experts = 2;
      c.qk_nope_head_dim = 128, c.qk_rope_head_dim = 64, c.v_head_dim = 128;
      c.moe_intermediate_size = 1407, c.topk_method = "greedy", c.scoring_func = "softmax";
      c.norm_topk_prob = false, c.bos_token_id = 1, c.eos_token_ids = {2};
      break;
    case kOlmo2:
    case kLlama:
      c.vocab_size = bit == kLlama ? 32000 : 50304, c.hidden_size = 4096;
      c.intermediate_size = 11008, c.num_hidden_layers = 32, c.num_attention_heads = 32;
      c.max_position_embeddings = 2048, c.rope_interleave = false, c.hadal_attention = "gqa";
      if (bit == kLlama) {
        c.bos_token_id = 1, c.eos_token_ids = {2};
      } else {
        c.pad_token_id = 1, c.eos_token_ids = {50279}, c.rms_norm_eps = 1e-5;
        c.hadal_norm_placement = "post", c.hadal_qk_norm = "whole";
      }
      break;
    case kHadal:
      break;
  }
  return c;
}

bool in_list(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t end = list.find(", ");
    if (list.substr(0, end) == word) return true;
    if (end == std::string_view::npos) break;
    list.remove_prefix(end + 2);
  }
  return false;
}

bool field_used(const ConfigField& field, const ModelConfig& config) {
  switch (field.part) {
    case kMla:
      return config.hadal_attention == "mla";
    case kGqa:
      return config.hadal_attention == "gqa";
    case kMoe:
      return config.n_routed_experts > 0;
    case kAll:
      break;
  }
  return true;
}

Json field_value(const ConfigField& field, const ModelConfig& config) {
  const auto as_json = [&](auto member) -> Json {
    const auto& value = config.*member;
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, RopeScaling>) {
      return Json(rope_json(value));
    } else if constexpr (std::is_same_v<T, DType>) {
      return value == DType::kBF16 ? "bfloat16" : value == DType::kF16 ? "float16" : "float32";
    } else if constexpr (std::is_same_v<T, std::optional<int64_t>>) {
      return value ? Json(*value) : Json(nullptr);
    } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
      return value.empty() ? Json(nullptr) : value.size() == 1 ? Json(value[0]) : Json(value);
    } else if constexpr (std::is_same_v<T, int64_t>) {
      return value == 0 && field.null_means == 0 && field.min > 0 ? Json(nullptr) : Json(value);
    } else {
      return Json(value);
    }
  };
  return std::visit(as_json, field.member);
}

std::string_view class_values(ConfigClass bit, std::string_view key) {
  for (const ClassValues& c : kClassValues) {
    if ((c.classes & bit) != 0 && c.key == key) return c.values;
  }
  return {};
}

std::string class_misfit(const ClassInfo& info, const ModelConfig& config) {
  const ModelConfig defaults = class_defaults(info.bit);
  for (const ConfigField& field : config_fields()) {
    if (!field_used(field, config)) continue;
    const std::string value = brief(field, config);
    if ((field.classes & info.bit) == 0) {
      const std::string fixed = brief(field, defaults);
      if (value == fixed) continue;
      return str(field.name, " is ", value, ", supported by ", info.name, ": ", fixed);
      continue;
    }
    const std::string_view has = class_values(info.bit, field.name);
    if (!has.empty() && !in_list(has, bare(field, config))) {
      return str(field.name, " is ", value, ", supported by ", info.name, ": ", has);
    }
  }
  return {};
}

bool harmless_key(std::string_view key, ConfigClass bit) {
  return in_list(kHarmless, key) || ((bit & kDeepseek) != 0 && in_list(kHarmlessMla, key));
}

std::string config_reference() {
  std::ostringstream out;
  out << "| key | classes | left out |  |\n|---|---|---|---|\n";
  for (const ConfigField& field : config_fields()) {
    std::string classes;
    std::vector<std::string> defaults;
    for (const ClassInfo& info : kClasses) {
      if ((field.classes & info.bit) == 0) continue;
      const std::string_view name = info.name.substr(0, info.name.find("For"));
      classes += (classes.empty() ? "" : ", ") + std::string(name);
      const std::string value = brief(field, class_defaults(info.bit));
      defaults.push_back(value == "0" && field.min > 0 ? "error" : value);
    }
    if (std::ranges::count(defaults, defaults[0]) == std::ssize(defaults)) defaults.resize(1);
    out << "| " << field.name;
    if (!field.alias.empty()) out << " (" << field.alias << ")";
    out << " | " << (field.classes == kEveryClass ? "all" : classes) << " | ";
    for (size_t i = 0; i < defaults.size(); ++i) out << (i == 0 ? "" : ", ") << defaults[i];
    out << " | " << field.doc;
    if (!field.values.empty()) out << ". One of " << field.values;
    out << " |\n";
  }
  out << "\n| key of rope_scaling | rope types |  |\n|---|---|---|\n";
  out << "| rope_type (type) | " << kRopeTypes << " | what is done to the frequencies |\n";
  for (const RopeField& field : rope_fields()) {
    out << "| " << field.name << " | " << field.types << " | " << field.doc << " |\n";
  }
  return out.str();
}

}  // namespace hadal
