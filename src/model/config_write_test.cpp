#include <gmock/gmock.h>

#include "core/files.h"
#include "model/config_fields.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using testing::IsEmpty;

ModelConfig parse_quietly(const Json& json) {
  ConfigWarnings warnings;
  ModelConfig config = parse_config(json, "config.json", warnings);
  EXPECT_THAT(warnings.lines, IsEmpty());
  return config;
}

// Through text, as a file does it.
ModelConfig round_trip(const ModelConfig& config) {
  return parse_quietly(parse_json(config_json(config).dump(2), "written"));
}

ModelConfig latent() {
  ModelConfig c;
  c.vocab_size = 64, c.hidden_size = 32, c.intermediate_size = 48, c.num_hidden_layers = 3;
  c.num_attention_heads = c.num_key_value_heads = 4, c.max_position_embeddings = 128;
  c.kv_lora_rank = 16, c.qk_nope_head_dim = 8, c.qk_rope_head_dim = 4, c.v_head_dim = 8;
  c.n_routed_experts = 8, c.num_experts_per_tok = 2, c.moe_intermediate_size = 8;
  c.first_k_dense_replace = 1, c.bos_token_id = 0, c.eos_token_ids = {1, 2};
  check_config(c, "latent");
  return c;
}

ModelConfig grouped() {
  ModelConfig c = latent();
  c.kv_lora_rank = c.qk_nope_head_dim = c.qk_rope_head_dim = c.v_head_dim = 0;
  c.n_routed_experts = c.num_experts_per_tok = c.moe_intermediate_size = 0;
  c.first_k_dense_replace = 0;
  c.hadal_attention = "gqa", c.head_dim = 8, c.num_key_value_heads = 2, c.rope_interleave = false;
  check_config(c, "grouped");
  return c;
}

TEST(ConfigWrite, ChoosesTheClassThatSaysIt) {
  EXPECT_EQ(architecture_for(latent()), "DeepseekV3ForCausalLM");
  EXPECT_EQ(architecture_for(grouped()), "LlamaForCausalLM");
  ModelConfig c = latent();
  c.architecture = "HadalForCausalLM";
  EXPECT_EQ(architecture_for(c), "DeepseekV3ForCausalLM");
  c.n_routed_experts = 0;
  EXPECT_EQ(architecture_for(c), "DeepseekV3ForCausalLM");
  c.mlp_bias = true;
  EXPECT_EQ(architecture_for(c), "DeepseekV2ForCausalLM");
  c = latent();
  c.scoring_func = "softmax", c.topk_method = "greedy", c.norm_topk_prob = false;
  EXPECT_EQ(architecture_for(c), "DeepseekV2ForCausalLM");
  c.num_nextn_predict_layers = 1;
  EXPECT_EQ(architecture_for(c), "HadalForCausalLM");
  c = grouped();
  c.hadal_norm_placement = "post", c.hadal_qk_norm = "whole";
  EXPECT_EQ(architecture_for(c), "Olmo2ForCausalLM");
  c.mlp_bias = true;
  EXPECT_EQ(architecture_for(c), "HadalForCausalLM");
  c = grouped();
  c.hidden_size = 30;  // transformers' Llama wants heads to divide it
  EXPECT_EQ(architecture_for(c), "HadalForCausalLM");
  c = latent();
  c.hidden_size = 30;
  EXPECT_EQ(architecture_for(c), "DeepseekV3ForCausalLM");
  c.n_routed_experts = 2, c.n_group = 2,
  c.topk_group = 2;  // transformers takes the two best of one
  EXPECT_EQ(architecture_for(c), "HadalForCausalLM");
  // A dense model keeps the class it came with.
  c = latent();
  c.n_routed_experts = 0, c.architecture = "DeepseekV2ForCausalLM";
  EXPECT_EQ(architecture_for(c), "DeepseekV2ForCausalLM");
}

// One change at a time takes a model out of every released class, and only then are our own keys
// written, each alone.
TEST(ConfigWrite, WritesOwnKeysOnlyWhereTheyDiffer) {
  const auto own_keys = [](const ModelConfig& config) {
    std::string keys;
    const OrderedJson json = config_json(config);
    for (const auto& [key, value] : json.items()) {
      if (key.starts_with("hadal_")) keys += key + " ";
    }
    return keys;
  };
  EXPECT_EQ(own_keys(latent()), "");
  EXPECT_EQ(own_keys(grouped()), "");
  const auto changed = [](auto member, auto value) {
    ModelConfig c = latent();
    c.*member = value;
    return c;
  };
  const std::vector<std::pair<std::string, ModelConfig>> cases{
      {"hadal_norm ", changed(&ModelConfig::hadal_norm, "layernorm")},
      {"hadal_norm_placement ", changed(&ModelConfig::hadal_norm_placement, "post")},
      {"hadal_rope_groups ", changed(&ModelConfig::hadal_rope_groups, 2)},
      {"", changed(&ModelConfig::moe_layer_freq, 2)},
      {"", changed(&ModelConfig::mlp_bias, true)},
  };
  for (const auto& [keys, config] : cases) {
    SCOPED_TRACE(config_json(config).dump());
    EXPECT_EQ(architecture_for(config), "HadalForCausalLM");
    EXPECT_EQ(own_keys(config), keys);
    ModelConfig again = round_trip(config);
    EXPECT_EQ(again.architecture, "HadalForCausalLM");
    again.architecture = config.architecture;
    EXPECT_EQ(again, config);
  }
  ModelConfig gpt = grouped();
  gpt.hadal_ffn = "gelu", gpt.hidden_act = "gelu_pytorch_tanh", gpt.hadal_norm = "layernorm";
  gpt.hadal_qk_norm = "head", gpt.architecture = "HadalForCausalLM";
  EXPECT_EQ(own_keys(gpt), "hadal_attention hadal_ffn hadal_norm hadal_qk_norm ");
  EXPECT_EQ(round_trip(gpt), gpt);
  ModelConfig sparse = grouped();
  sparse.n_routed_experts = 8, sparse.num_experts_per_tok = 2, sparse.moe_intermediate_size = 8;
  sparse.architecture = "HadalForCausalLM";
  EXPECT_EQ(round_trip(sparse), sparse);
}

TEST(ConfigWrite, RoundTrips) {
  std::vector<fs::path> files;
  for (const char* folder : {"tests/golden", "tests/fuzz/corpus/config"}) {
    for (const auto& entry : fs::directory_iterator(source_dir() / folder)) files.push_back(entry);
  }
  int count = 0;
  for (const fs::path& file : files) {
    const fs::path path = fs::is_directory(file) ? file / "config.json" : file;
    const std::string name = path.filename().string();
    if (!name.ends_with(".json") || name == "manifest.json" || name.starts_with("error_")) continue;
    SCOPED_TRACE(path.string());
    ConfigWarnings warnings;
    const ModelConfig config = load_config(path, warnings);
    EXPECT_EQ(round_trip(config), config);
    ++count;
  }
  EXPECT_GE(count, 35);
}

TEST(ConfigWrite, RoundTripsRope) {
  for (const char* type : {"linear", "yarn", "llama3"}) {
    ModelConfig c = latent();
    RopeScaling& s = c.rope_scaling;
    s.type = type, s.factor = 8, c.rope_theta = 5e5;
    if (s.type != "linear") s.original_max_position_embeddings = 16;
    if (s.type != "llama3") s.mscale_all_dim = 0.5;
    if (s.type == "yarn") {
      s.beta_fast = 16, s.beta_slow = 2, s.mscale = 0.7, s.attention_factor = 1.5;
      s.truncate = false;
    }
    if (s.type == "llama3") s.low_freq_factor = 2, s.high_freq_factor = 5;
    EXPECT_EQ(round_trip(c), c);
    // Both names of the type: released code knows one, newer code the other.
    EXPECT_EQ(config_json(c)["rope_scaling"]["type"], type);
    EXPECT_EQ(config_json(c)["rope_scaling"]["rope_type"], type);
  }
  EXPECT_TRUE(config_json(latent())["rope_scaling"].is_null());
}

TEST(ConfigWrite, SaysDenseWithExpertsThatNoLayerReads) {
  ModelConfig c = latent();
  for (const ConfigField& field : config_fields()) {
    if (field.part != ConfigPart::kMoe) continue;
    std::visit([&](auto member) { c.*member = ModelConfig().*member; }, field.member);
  }
  c.num_nextn_predict_layers = 2;
  const OrderedJson json = config_json(c);
  EXPECT_EQ(json["architectures"][0], "DeepseekV3ForCausalLM");
  EXPECT_EQ(json["first_k_dense_replace"], 5);
  EXPECT_EQ(json["n_routed_experts"], 1);
  EXPECT_EQ(json["n_group"], 1);
  EXPECT_EQ(round_trip(c), c);
  // A module that reads experts keeps them: transformers' MTP layers always do.
  Json sparse_mtp = Json(json);
  sparse_mtp["first_k_dense_replace"] = 3;
  EXPECT_EQ(parse_quietly(sparse_mtp).n_routed_experts, 1);
  EXPECT_TRUE(parse_quietly(sparse_mtp).moe_layer(3));
}

TEST(ConfigWrite, KeepsTypesThatTransformersInsistsOn) {
  ModelConfig c = latent();
  c.routed_scaling_factor = 16, c.rope_theta = 10000;
  const std::string text = config_json(c).dump();
  EXPECT_NE(text.find("\"routed_scaling_factor\":16.0"), std::string::npos) << text;
  EXPECT_NE(text.find("\"q_lora_rank\":null"), std::string::npos) << text;
  EXPECT_NE(text.find("\"n_shared_experts\":0"), std::string::npos) << text;
  EXPECT_NE(text.find("\"num_key_value_heads\":4"), std::string::npos) << text;
  EXPECT_NE(text.find("\"torch_dtype\":\"float32\""), std::string::npos) << text;
  EXPECT_NE(text.find("\"eos_token_id\":[1,2]"), std::string::npos) << text;
  EXPECT_EQ(text.find("quantization_config"), std::string::npos) << text;
}

TEST(ConfigWrite, WritesQuantisation) {
  ModelConfig c = latent();
  c.weight_block_size = {128, 64}, c.scale_fmt = "ue8m0", c.dtype = DType::kBF16;
  EXPECT_EQ(round_trip(c), c);
}

TEST(ConfigWrite, WritesGenerationConfig) {
  ModelConfig c = latent();
  EXPECT_EQ(generation_config_json(c).dump(),
            R"({"_from_model_config":true,"bos_token_id":0,"eos_token_id":[1,2]})");
  c.bos_token_id.reset(), c.eos_token_ids = {7}, c.pad_token_id = 3;
  EXPECT_EQ(generation_config_json(c).dump(),
            R"({"_from_model_config":true,"eos_token_id":7,"pad_token_id":3})");
}

// docs/config.md is this table; HADAL_UPDATE_DOCS=1 writes it anew.
TEST(ConfigWrite, DocumentsEveryKey) {
  const fs::path path = source_dir() / "docs/config.md";
  const std::string begin = "<!-- keys -->\n", end = "<!-- end of keys -->\n";
  std::string text = read_file(path);
  const size_t from = text.find(begin), to = text.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  const size_t first = from + begin.size();
  if (std::getenv("HADAL_UPDATE_DOCS") != nullptr) {
    text.replace(first, to - first, config_reference());
    write_file_atomically(path, text);
    return;
  }
  EXPECT_EQ(text.substr(first, to - first), config_reference());
}

}  // namespace
}  // namespace hadal
