#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "ops/rope.h"
#include "ops/router.h"

namespace hadal {

// config.json's rope_scaling / rope_parameters as written, before the formulas of ops/rope.h.
struct RopeScaling {
  std::string type = "default";  // default, linear, yarn, llama3 (key "type" or "rope_type")
  double factor = 1;
  int64_t original_max_position_embeddings = 0;
  double beta_fast = 32, beta_slow = 1;
  std::optional<double> mscale, mscale_all_dim, attention_factor;
  bool truncate = true;
  double low_freq_factor = 1, high_freq_factor = 4;
  bool operator==(const RopeScaling&) const = default;
};

// A model as its config.json describes it. Names are Hugging Face's; `hadal_` keys are our own and
// are written only where a model differs from every class Hugging Face knows. One list,
// visit_config() in config_fields.h, serves parsing, writing, checking and the documentation.
struct ModelConfig {
  // DeepseekV3ForCausalLM, DeepseekV2ForCausalLM, Olmo2ForCausalLM, LlamaForCausalLM, or
  // HadalForCausalLM for combinations that exist nowhere else.
  std::string architecture = "DeepseekV3ForCausalLM";

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // gqa kinds; 0 in the file = hidden_size / heads
  int64_t max_position_embeddings = 0;
  std::string hidden_act = "silu";  // silu, or gelu_pytorch_tanh with hadal_ffn = "gelu"
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  DType dtype = DType::kF32;  // torch_dtype / dtype: how the weights are stored

  // MLA (sec. 2.1.1). q_lora_rank 0 = null: the query is not compressed.
  int64_t q_lora_rank = 0, kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;

  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool rope_interleave = true;  // pairs (2i, 2i+1); DeepSeek. Llama, OLMo 2: false

  // MoE (sec. 2.1.2). n_routed_experts 0 = all layers dense.
  int64_t n_routed_experts = 0, n_shared_experts = 0, num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0, first_k_dense_replace = 0, moe_layer_freq = 1;
  int64_t n_group = 1, topk_group = 1;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;
  std::string scoring_func = "sigmoid";  // sigmoid, softmax
  std::string topk_method = "noaux_tc";  // noaux_tc, greedy, group_limited_greedy

  int64_t num_nextn_predict_layers = 0;  // D of multi-token prediction (sec. 2.2)

  // quantization_config: fp8, e4m3. Empty = not quantised.
  std::vector<int64_t> weight_block_size;
  std::string scale_fmt;  // "" or "ue8m0"
  // quantization_config of our own: a name of model_formats() (model/quantize.h), or "".
  std::string hadal_format;

  // ---- our own
  std::string hadal_attention = "mla";       // a name in model/kinds.cpp: mla, gqa
  std::string hadal_ffn = "swiglu";          // swiglu, gelu
  std::string hadal_norm = "rmsnorm";        // rmsnorm, layernorm
  std::string hadal_norm_placement = "pre";  // pre; post = OLMo 2: on the sub-layer's output
  std::string hadal_qk_norm = "none";  // gqa: none; whole = over all heads at once (OLMo 2); head
  int64_t hadal_rope_groups = 1;       // multi-scale RoPE: head groups with bands of their own

  std::optional<int64_t> bos_token_id, pad_token_id;
  std::vector<int64_t> eos_token_ids;

  bool moe_layer(int64_t layer) const {
    if (layer >= num_hidden_layers) return n_routed_experts > 0;  // MTP blocks always are
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  int64_t qk_head_dim() const {
    return hadal_attention == "mla" ? qk_nope_head_dim + qk_rope_head_dim : head_dim;
  }
  int64_t rope_dim() const { return hadal_attention == "mla" ? qk_rope_head_dim : head_dim; }
  RopeParams rope_params() const;  // all four mscale forms resolved (model.md's traps)
  float softmax_scale() const;     // qk_head_dim^-0.5, times mscale^2 where YaRN says so
  RouterShape router_shape() const;
  bool operator==(const ModelConfig&) const = default;
};

// What a reader of a config ought to know but need not stop for: unknown keys (each named once), an
// MTP layer announced without weights.
struct ConfigWarnings {
  std::vector<std::string> lines;
};

// Both spellings of config.json (released; transformers 5); keys left out mean what transformers
// 5.23 takes them to mean. `where` names the file in messages. Error{kConfig} names the key, the
// value and what is supported, Error{kFormat} a value of the wrong JSON type; all cross-checks are
// done here, before anything is allocated.
ModelConfig parse_config(const Json& json, const std::string& where, ConfigWarnings& warnings);
// generation_config.json's begin, pad and end tokens go before config.json's, as in transformers.
void apply_generation_config(const Json& json, const std::string& where, ModelConfig& config);
// MODEL folder or a config.json; reads generation_config.json beside it for end tokens.
ModelConfig load_config(const std::filesystem::path& model_or_config, ConfigWarnings& warnings);
// config.json's text, in the spelling that both old and new transformers read. The class is
// architecture_for(config).
OrderedJson config_json(const ModelConfig& config);
// generation_config.json: begin, pad and end tokens.
OrderedJson generation_config_json(const ModelConfig& config);
// The class that describes this combination of kinds: config.architecture if that does, else the
// first that does, else HadalForCausalLM.
std::string architecture_for(const ModelConfig& config);
// All that must hold before a Transformer is made of it, whatever the class: ranges, products below
// 2^50 numbers, what divides what. Error{kConfig} names key, value and expectation.
void check_config(const ModelConfig& config, const std::string& where);

}  // namespace hadal
