// Every file of tests/fuzz/attacks/config is refused, for its own reason.
#include <map>

#include "core/files.h"
#include "model/config.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

const std::map<std::string, std::string>& reasons() {
  static const std::map<std::string, std::string> list{
      {"activation_unknown", "hidden_act is \"relu\", supported by DeepseekV3ForCausalLM: silu"},
      {"bad_utf8", "not valid JSON: The input is not valid UTF-8"},
      {"begin_token_outside", "bos_token_id is 1099511627776, expected 0 .. vocab_size - 1 = 63"},
      {"bool_number", "norm_topk_prob is 1, expected true or false"},
      {"class_control_characters", "architectures is [\"\\u001b[31m\\nAAA"},
      {"class_list_of_lists", "architectures is [\"DeepseekV3ForCausalLM\"], expected a string"},
      {"class_none", "has neither architectures nor model_type, supported"},
      {"class_text", "architectures is \"DeepseekV3ForCausalLM\", expected an array"},
      {"class_two",
       "architectures is [\"DeepseekV3ForCausalLM\",\"LlamaForCausalLM\"], expected a list of one "
       "class"},
      {"class_unknown", "architectures is [\"DeepseekV32ForCausalLM\"], supported"},
      {"dtype_unknown", "torch_dtype is \"float8_e5m2\", supported: float32, bfloat16, float16"},
      {"duplicate_key", "key \"vocab_size\" stands twice in one object"},
      {"empty", "not valid JSON: Empty: no JSON found"},
      {"end_token_negative", "eos_token_id is -5, expected 0 .. vocab_size - 1 = 63"},
      {"end_token_outside", "eos_token_id is 64, expected 0 .. vocab_size - 1 = 63"},
      {"end_token_text", "eos_token_id is \"</s>\", expected an integer"},
      {"end_tokens_100000", "eos_token_id lists 100000 tokens, expected at most 1024"},
      {"epsilon_0", "rms_norm_eps is 0, expected 1e-30 .. 1"},
      {"epsilon_1e400", "not valid JSON: Problem while parsing a number"},
      {"epsilon_below_float", "rms_norm_eps is 1e-60, expected 1e-30 .. 1"},
      {"epsilon_nan", "not valid JSON: The JSON document has an improper structure"},
      {"epsilon_negative", "rms_norm_eps is -1e-06, expected 1e-30 .. 1"},
      {"experts_0", "n_routed_experts is 0, expected at least 1 or null"},
      {"experts_2e31", "n_routed_experts is 2147483648, expected 1 .. 65536"},
      {"experts_in_llama", "num_experts is 8, supported by LlamaForCausalLM: null"},
      {"first_dense_negative", "first_k_dense_replace is -1, expected at least 0 or null"},
      {"groups_0", "n_group is 0, expected at least 1 or null"},
      {"groups_do_not_divide", "n_group is 3, expected a divisor of n_routed_experts 8"},
      {"groups_of_one",
       "n_group is 8 for n_routed_experts 8, but a group is scored by its two best experts"},
      {"head_dim_0", "head_dim is 0, expected at least 1 or null"},
      {"head_dim_odd", "head_dim is 7, expected an even number"},
      {"heads_0", "num_attention_heads is 0, expected at least 1"},
      {"heads_do_not_divide",
       "hidden_size is 33, which num_attention_heads 4 does not divide, and there is no head_dim"},
      {"hidden_0", "hidden_size is 0, expected at least 1"},
      {"hidden_2e62", "hidden_size is 4611686018427387904, expected 1 .. 1048576"},
      {"hidden_null", "hidden_size is null, expected an integer"},
      {"kv_heads_0", "num_key_value_heads is 0, expected at least 1 or null"},
      {"kv_heads_above_heads",
       "num_key_value_heads is 8, expected a divisor of num_attention_heads 4"},
      {"kv_heads_do_not_divide",
       "num_key_value_heads is 3, expected a divisor of num_attention_heads 4"},
      {"kv_rank_0", "kv_lora_rank is 0, expected at least 1"},
      {"layers_0", "num_hidden_layers is 0, expected at least 1"},
      {"layers_2e31", "num_hidden_layers is 2147483648, expected 1 .. 4096"},
      {"layers_2e63", "num_hidden_layers is 9223372036854775808, expected an integer below 2^63"},
      {"layers_float", "num_hidden_layers is 2.5, expected an integer"},
      {"layers_list", "num_hidden_layers is [61], expected an integer"},
      {"layers_negative", "num_hidden_layers is -61, expected at least 1"},
      {"layers_text", "num_hidden_layers is \"61\", expected an integer"},
      {"layers_times_experts",
       "a model of about 8.05405e+08 tensors, expected at most 1.04858e+06 (num_hidden_layers "
       "4096, n_routed_experts 6"},
      {"llama3_frequencies_crossed",
       "rope_scaling.high_freq_factor is 1, expected above low_freq_factor, at most 1e6"},
      {"method_unknown", "topk_method is \"hash\", supported by DeepseekV3ForCausalLM: noaux_tc"},
      {"moe_width_0", "moe_intermediate_size is 0, expected at least 1"},
      {"mtp_2e31", "num_nextn_predict_layers is 2147483648, expected 0 .. 64"},
      {"nested_100000",
       "not valid JSON: The JSON document was too deep (too many nested objects and arrays)"},
      {"nested_objects_600",
       "not valid JSON: The JSON document was too deep (too many nested objects and arrays)"},
      {"nope_0", "qk_nope_head_dim is 0, expected at least 1"},
      {"not_an_object", "is [1,2,3], expected an object"},
      {"null_bytes", "not valid JSON: The JSON document has an improper structure"},
      {"number_huge", "not valid JSON: Problem while parsing a number"},
      {"own_attention_unknown", "hadal_attention is \"mamba\", supported: mla, gqa"},
      {"own_groups_do_not_divide",
       "hadal_rope_groups is 3, expected a divisor of num_attention_heads 4"},
      {"own_key_in_v3", "hadal_rope_groups is 4, supported by DeepseekV3ForCausalLM: 1"},
      {"own_sizes_missing", "vocab_size is 0, expected 1 .. 16777216"},
      {"pad_token_outside", "pad_token_id is 64, expected 0 .. vocab_size - 1 = 63"},
      {"positions_0", "max_position_embeddings is 0, expected at least 1"},
      {"positions_2e62", "max_position_embeddings is 4611686018427387904, expected 1 .. 16777216"},
      {"product_overflows", "a model of about 3.84831e+16 parameters, expected at most 1.1259e+15"},
      {"q_rank_0", "q_lora_rank is 0, expected at least 1 or null"},
      {"q_rank_negative", "q_lora_rank is -1, expected at least 1 or null"},
      {"quantised_awq", "quantization_config.quant_method is \"awq\", supported: fp8"},
      {"quantised_blocks_0", "quantization_config.weight_block_size has 0, expected 1 .. 1048576"},
      {"quantised_blocks_2e62",
       "quantization_config.weight_block_size has 4611686018427387904, expected 1 .. 1048576"},
      {"quantised_blocks_three",
       "quantization_config.weight_block_size is [1,2,3], expected two numbers"},
      {"quantised_list", "quantization_config is [\"fp8\"], expected an object"},
      {"quantised_unnamed", "quantization_config.quant_method is missing, supported: fp8"},
      {"rope_0", "qk_rope_head_dim is 0, expected at least 1"},
      {"rope_attention_factor_0",
       "rope_scaling.attention_factor is 0, expected above 0, at most 1000"},
      {"rope_betas_crossed",
       "rope_scaling.beta_fast is 1, expected at least beta_slow, at most 1e6"},
      {"rope_contradiction",
       "rope_scaling and rope_parameters contradict each other: "
       "{\"factor\":40,\"original_max_position_embeddings\":16,\"ty"},
      {"rope_factor_0", "rope_scaling.factor is 0, expected 1 .. 1e6"},
      {"rope_factor_1e308", "rope_scaling.factor is 1e+308, expected 1 .. 1e6"},
      {"rope_factor_negative", "rope_scaling.factor is -4, expected 1 .. 1e6"},
      {"rope_factor_text", "rope_scaling.factor is \"40\", expected a number"},
      {"rope_list", "rope_scaling is [4], expected an object"},
      {"rope_mscale_negative", "rope_scaling.mscale is -1, expected above 0, at most 1000"},
      {"rope_nested",
       "rope_parameters has \"full_attention\" but no rope_type, expected one of default, linear, "
       "yarn, llama3"},
      {"rope_odd", "qk_rope_head_dim is 5, expected an even number"},
      {"rope_original_2e62",
       "rope_scaling.original_max_position_embeddings is 4.61169e+18, expected 1 .. 16777216"},
      {"rope_original_negative",
       "rope_scaling.original_max_position_embeddings is -4096, expected 1 .. 16777216"},
      {"rope_partial", "rope_scaling.partial_rotary_factor is 0.5, supported: 1"},
      {"rope_unknown",
       "rope_scaling.type is \"longrope\", supported: default, linear, yarn, llama3"},
      {"rope_untyped",
       "rope_scaling has \"factor\" but no rope_type, expected one of default, linear, yarn, "
       "llama3"},
      {"scaling_factor_0", "routed_scaling_factor is 0, expected 1e-06 .. 1e+06"},
      {"scaling_factor_negative", "routed_scaling_factor is -1, expected 1e-06 .. 1e+06"},
      {"scoring_unknown",
       "scoring_func is \"sqrtsoftplus\", supported by DeepseekV3ForCausalLM: sigmoid"},
      {"theta_0", "rope_theta is 0, expected 1.001 .. 1e+18"},
      {"theta_1", "rope_theta is 1, expected 1.001 .. 1e+18"},
      {"theta_negative", "rope_theta is -10000, expected 1.001 .. 1e+18"},
      {"theta_text", "rope_theta is \"10000\", expected a number"},
      {"top_groups_above_groups", "topk_group is 5, expected at most n_group 4"},
      {"top_k_0", "num_experts_per_tok is 0, expected at least 1"},
      {"top_k_above_experts", "num_experts_per_tok is 9, expected at most n_routed_experts 8"},
      {"top_k_above_what_groups_hold",
       "num_experts_per_tok is 5, but topk_group 2 groups of 2 experts hold only 4"},
      {"trailing_text", "not valid JSON: The JSON document has an improper structure"},
      {"truncated", "not valid JSON: A string is opened, but never closed."},
      {"v_0", "v_head_dim is 0, expected at least 1"},
      {"vocabulary_0", "vocab_size is 0, expected at least 1"},
      {"vocabulary_2e40", "vocab_size is 1099511627776, expected 1 .. 16777216"},
  };
  return list;
}

TEST(ConfigAttacks, EachIsRefusedForItsReason) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() / "tests/fuzz/attacks/config")) {
    const std::string name = entry.path().stem().string();
    SCOPED_TRACE(name);
    const auto reason = reasons().find(name);
    ASSERT_NE(reason, reasons().end()) << "no reason is given for this file";
    ++count;
    ConfigWarnings warnings;
    try {
      parse_config(parse_json(read_file(entry.path()), "config.json"), "config.json", warnings);
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_TRUE(e.kind() == ErrorKind::kConfig || e.kind() == ErrorKind::kFormat);
      const std::string message = e.what();
      EXPECT_NE(message.find(reason->second), std::string::npos) << message;
      EXPECT_TRUE(message.starts_with("config.json")) << message;
      EXPECT_LT(message.size(), 400u) << message;
    }
  }
  EXPECT_EQ(count, reasons().size());
}

}  // namespace
}  // namespace hadal
