#include "tests/conformance/variants.h"

#include "core/rng.h"

namespace hadal {
namespace {

ModelConfig base_config() {
  ModelConfig c;
  c.vocab_size = 48;
  c.hidden_size = 32;
  c.intermediate_size = 40;
  c.num_hidden_layers = 2;
  c.num_attention_heads = c.num_key_value_heads = 4;
  c.head_dim = 12;
  c.max_position_embeddings = 128;
  c.rope_theta = 100;
  c.rms_norm_eps = 1e-3;  // not that of the norms inside MLA
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = 12;
  c.qk_rope_head_dim = 8;
  c.v_head_dim = 10;
  c.n_routed_experts = 8;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 3;
  c.moe_intermediate_size = 16;
  c.first_k_dense_replace = 1;
  c.n_group = 4;
  c.topk_group = 2;
  c.routed_scaling_factor = 1.5;
  c.num_nextn_predict_layers = 1;
  c.eos_token_ids = {1};
  return c;
}

void dense(ModelConfig& c) {
  c.n_routed_experts = c.n_shared_experts = c.num_experts_per_tok = c.moe_intermediate_size = 0;
  c.first_k_dense_replace = 0;
  c.n_group = c.topk_group = 1;
}

void gqa(ModelConfig& c, int64_t kv_heads) {
  c.hadal_attention = "gqa";
  c.num_key_value_heads = kv_heads;
  c.q_lora_rank = c.kv_lora_rank = c.qk_nope_head_dim = c.qk_rope_head_dim = c.v_head_dim = 0;
  c.rope_interleave = false;
}

void gelu(ModelConfig& c) {
  c.hadal_ffn = "gelu";
  c.hidden_act = "gelu_pytorch_tanh";
}

// Beyond an original context of 8 tokens, with a ramp inside the spectrum.
void yarn(ModelConfig& c) {
  c.rope_scaling.type = "yarn";
  c.rope_scaling.factor = 4;
  c.rope_scaling.original_max_position_embeddings = 8;
  c.rope_scaling.beta_fast = 1;
  c.rope_scaling.beta_slow = 0.1;
  c.rope_scaling.mscale = 0.7;
  c.rope_scaling.mscale_all_dim = 1.2;
}

void llama3(ModelConfig& c) {
  c.rope_scaling.type = "llama3";
  c.rope_scaling.factor = 4;
  c.rope_scaling.original_max_position_embeddings = 24;
  c.rope_scaling.low_freq_factor = 0.5;
  c.rope_scaling.high_freq_factor = 2;
}

void linear_rope(ModelConfig& c) {
  c.rope_scaling.type = "linear";
  c.rope_scaling.factor = 3;
}

// V2's router.
void softmax_router(ModelConfig& c, const char* topk_method) {
  c.scoring_func = "softmax";
  c.topk_method = topk_method;
  c.norm_topk_prob = false;
}

using C = ModelConfig;

std::vector<Variant> attention_variants() {
  return {
      {"mla", [](C&) {}},
      {"mla_q_lora", [](C& c) { c.q_lora_rank = 20; }},
      {"mla_q_lora_biases", [](C& c) { c.q_lora_rank = 20, c.attention_bias = c.mlp_bias = true; }},
      {"mla_halves", [](C& c) { c.rope_interleave = false; }},
      {"mla_yarn", yarn},
      {"mla_yarn_attention_factor", [](C& c) { yarn(c), c.rope_scaling.attention_factor = 1.1; }},
      {"mla_yarn_truncate_false",
       [](C& c) {
         yarn(c);
         c.rope_scaling.truncate = false;
         c.rope_scaling.mscale = c.rope_scaling.mscale_all_dim = std::nullopt;
       }},
      {"mla_linear_rope", linear_rope},
      {"mla_multi_scale_rope", [](C& c) { c.hadal_rope_groups = 2; }},
      {"mla_multi_scale_yarn", [](C& c) { yarn(c), c.hadal_rope_groups = 4; }},
      {"mha", [](C& c) { gqa(c, 4); }},
      {"gqa", [](C& c) { gqa(c, 2); }},
      {"mqa", [](C& c) { gqa(c, 1); }},
      {"gqa_adjacent", [](C& c) { gqa(c, 2), c.rope_interleave = true; }},
      {"gqa_linear_rope", [](C& c) { gqa(c, 2), linear_rope(c); }},
      {"gqa_llama3_rope", [](C& c) { gqa(c, 2), llama3(c); }},
      {"gqa_yarn", [](C& c) { gqa(c, 2), yarn(c); }},
      {"gqa_multi_scale_rope", [](C& c) { gqa(c, 2), c.hadal_rope_groups = 2; }},
      {"mqa_multi_scale_rope", [](C& c) { gqa(c, 1), c.hadal_rope_groups = 4; }},
      {"gqa_head_norm", [](C& c) { gqa(c, 2), c.hadal_qk_norm = "head"; }},
      {"gqa_whole_norm_layernorm",
       [](C& c) { gqa(c, 2), c.hadal_qk_norm = "whole", c.hadal_norm = "layernorm"; }},
  };
}

std::vector<Variant> other_variants() {
  return {
      {"mla_dense", dense},
      {"mla_gelu", gelu},
      {"mla_tied", [](C& c) { c.tie_word_embeddings = true; }},
      {"mla_two_modules", [](C& c) { c.num_nextn_predict_layers = 2; }},
      {"mla_post_layernorm",
       [](C& c) { c.hadal_norm_placement = "post", c.hadal_norm = "layernorm"; }},
      {"mla_every_other_layer",
       [](C& c) { c.num_hidden_layers = 3, c.first_k_dense_replace = 0, c.moe_layer_freq = 2; }},
      {"mla_one_group_no_shared",
       [](C& c) { c.n_group = c.topk_group = 1, c.n_shared_experts = 0; }},
      {"mla_two_shared_top_one",
       [](C& c) { c.n_shared_experts = 2, c.num_experts_per_tok = 1, c.norm_topk_prob = false; }},
      {"mla_softmax_router", [](C& c) { softmax_router(c, "group_limited_greedy"); }},
      {"mla_softmax_greedy", [](C& c) { softmax_router(c, "greedy"), c.norm_topk_prob = true; }},
      {"olmo2",
       [](C& c) {
         gqa(c, 4), dense(c);
         c.hadal_norm_placement = "post";
         c.hadal_qk_norm = "whole";
       }},
      {"gpt",
       [](C& c) {
         gqa(c, 4), dense(c), gelu(c);
         c.hadal_norm = "layernorm";
         c.attention_bias = c.mlp_bias = true;
       }},
  };
}

}  // namespace

ModelConfig Variant::config() const {
  ModelConfig c = base_config();
  change(c);
  c.architecture = architecture_for(c);
  return c;
}

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = [] {
    std::vector<Variant> list = attention_variants();
    for (Variant& v : other_variants()) list.push_back(std::move(v));
    return list;
  }();
  return all;
}

std::unique_ptr<Transformer> make_model(const Variant& variant,
                                        const std::function<void(ModelConfig&)>& change) {
  ModelConfig config = variant.config();
  if (change) change(config);
  check_config(config, variant.name);
  auto model = std::make_unique<Transformer>(config);
  model->params().allocate_training();
  model->params().initialise(3, 0.2);
  Rng rng(9);
  for (Param& p : model->params().all()) {  // gains and biases that matter
    if (p.shape.size() != 1) continue;
    for (int64_t i = 0; i < p.size(); ++i) p.vec_mut().data()[i] += float(0.1 * rng.normal());
  }
  return model;
}

void choose_all_experts(ModelConfig& config) {
  config.num_experts_per_tok = config.n_routed_experts;
  config.topk_group = config.n_group;
}

std::vector<int32_t> some_ids(int64_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  Rng rng(seed);
  for (int64_t i = 0; i < n; ++i) ids.push_back(int32_t(rng.below(48)));
  return ids;
}

}  // namespace hadal
