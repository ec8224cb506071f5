#include "model/config.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/files.h"
#include "model/config_fields.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Json corpus(const std::string& name) {
  const fs::path path = source_dir() / "tests/fuzz/corpus/config" / name;
  return parse_json(read_file(path), name);
}

ModelConfig parse(const Json& json, std::vector<std::string>* lines = nullptr) {
  ConfigWarnings warnings;
  ModelConfig config = parse_config(json, "config.json", warnings);
  if (lines != nullptr) *lines = warnings.lines;
  return config;
}

// A small model of the class, all keys given.
Json small(const std::string& architecture) {
  Json json = {
      {"architectures", {architecture}}, {"vocab_size", 64},       {"hidden_size", 32},
      {"intermediate_size", 48},         {"num_hidden_layers", 3}, {"num_attention_heads", 4},
      {"max_position_embeddings", 128},  {"eos_token_id", 1},      {"bos_token_id", 0}};
  if (architecture.starts_with("Deepseek") || architecture.starts_with("Hadal")) {
    json.update(Json{{"kv_lora_rank", 16},
                     {"qk_nope_head_dim", 8},
                     {"qk_rope_head_dim", 4},
                     {"v_head_dim", 8},
                     {"q_lora_rank", nullptr},
                     {"n_routed_experts", 8},
                     {"num_experts_per_tok", 2},
                     {"moe_intermediate_size", 8},
                     {"n_group", 4},
                     {"topk_group", 2},
                     {"first_k_dense_replace", 1}});
  }
  return json;
}

Json with(Json json, const std::string& key, const Json& value) {
  json[key] = value;
  return json;
}

Json yarn(double factor, const Json& more) {
  Json rope = {{"type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", 16}};
  rope.update(more);
  return with(small("DeepseekV3ForCausalLM"), "rope_scaling", rope);
}

TEST(Config, ReadsTheReleasedV3) {
  std::vector<std::string> lines;
  const ModelConfig c = parse(corpus("deepseek_v3.json"), &lines);
  EXPECT_THAT(lines, IsEmpty());
  EXPECT_EQ(c.architecture, "DeepseekV3ForCausalLM");
  EXPECT_EQ(c.vocab_size, 129280);
  EXPECT_EQ(c.max_position_embeddings, 163840);
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.num_nextn_predict_layers, 1);
  EXPECT_EQ(c.rope_scaling.type, "yarn");
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_THAT(c.weight_block_size, ElementsAre(128, 128));
  EXPECT_THAT(c.eos_token_ids, ElementsAre(1));
  EXPECT_EQ(c.bos_token_id, 0);
  EXPECT_EQ(c.pad_token_id, std::nullopt);
  EXPECT_TRUE(c.rope_interleave);
  EXPECT_EQ(c.qk_head_dim(), 192);
  EXPECT_EQ(c.rope_dim(), 64);
  EXPECT_FALSE(c.moe_layer(2));
  EXPECT_TRUE(c.moe_layer(3));
  EXPECT_TRUE(c.moe_layer(61));  // the MTP module's
  EXPECT_NEAR(c.softmax_scale(), 0.1352338, 5e-8);
  EXPECT_EQ(c.rope_params().attention_factor, 1.0);
  const RouterShape shape = c.router_shape();
  EXPECT_EQ(shape.experts, 256);
  EXPECT_EQ(shape.top_k, 8);
  EXPECT_EQ(shape.groups, 8);
  EXPECT_EQ(shape.top_groups, 4);
  EXPECT_EQ(shape.scoring, RouterShape::Scoring::kSigmoid);
  EXPECT_EQ(shape.group_score, RouterShape::GroupScore::kTopTwoSum);
  EXPECT_TRUE(shape.norm_topk_prob);
  EXPECT_EQ(shape.routed_scaling_factor, 2.5f);
}

TEST(Config, ReadsTheReleasedV2) {
  const ModelConfig lite = parse(corpus("deepseek_v2_lite.json"));
  EXPECT_EQ(lite.q_lora_rank, 0);
  EXPECT_EQ(lite.n_shared_experts, 2);
  EXPECT_FALSE(lite.norm_topk_prob);
  EXPECT_EQ(lite.eos_token_ids, std::vector<int64_t>{100001});
  EXPECT_NEAR(lite.softmax_scale(), 0.1147214, 5e-8);
  EXPECT_EQ(lite.rope_params().attention_factor, 1.0);
  EXPECT_EQ(lite.router_shape().scoring, RouterShape::Scoring::kSoftmax);
  const RouterShape shape = parse(corpus("deepseek_v2.json")).router_shape();
  EXPECT_EQ(shape.groups, 8);
  EXPECT_EQ(shape.top_groups, 3);
  EXPECT_EQ(shape.group_score, RouterShape::GroupScore::kMax);
  EXPECT_EQ(shape.routed_scaling_factor, 16.0f);
}

TEST(Config, GreedyHasNoGroups) {
  Json json = small("DeepseekV2ForCausalLM");
  json["topk_method"] = "greedy";
  const RouterShape shape = parse(json).router_shape();
  EXPECT_EQ(shape.groups, 1);
  EXPECT_EQ(shape.top_groups, 1);
}

TEST(Config, ReadsLlamaAndOlmo) {
  const ModelConfig llama = parse(corpus("llama_3_1_8b.json"));
  EXPECT_EQ(llama.hadal_attention, "gqa");
  EXPECT_EQ(llama.head_dim, 128);
  EXPECT_EQ(llama.num_key_value_heads, 8);
  EXPECT_EQ(llama.rope_theta, 500000);
  EXPECT_FALSE(llama.rope_interleave);
  EXPECT_EQ(llama.hadal_norm_placement, "pre");
  EXPECT_EQ(llama.hadal_qk_norm, "none");
  EXPECT_THAT(llama.eos_token_ids, ElementsAre(128001, 128008, 128009));
  EXPECT_EQ(llama.rope_params().type, RopeParams::Type::kLlama3);
  EXPECT_EQ(llama.rope_params().low_freq_factor, 1);
  EXPECT_EQ(llama.rope_params().high_freq_factor, 4);
  EXPECT_EQ(llama.rope_params().original_max_position, 8192);
  EXPECT_FLOAT_EQ(llama.softmax_scale(), 1 / std::sqrt(128.0f));
  const ModelConfig olmo = parse(corpus("olmo2_7b.json"));
  EXPECT_EQ(olmo.hadal_norm_placement, "post");
  EXPECT_EQ(olmo.hadal_qk_norm, "whole");
  EXPECT_EQ(olmo.bos_token_id, std::nullopt);
  EXPECT_EQ(olmo.pad_token_id, 100277);
  EXPECT_EQ(olmo.dtype, DType::kF32);
  EXPECT_EQ(olmo.rope_params().type, RopeParams::Type::kDefault);
}

TEST(Config, ReadsBothSpellingsAlike) {
  Json released = corpus("deepseek_v3.json");
  Json newer = released;
  for (const char* key : {"rope_scaling", "rope_theta", "torch_dtype", "scoring_func",
                          "topk_method", "moe_layer_freq", "auto_map"}) {
    newer.erase(key);
  }
  newer["dtype"] = "bfloat16";
  newer["rope_parameters"] = released["rope_scaling"];
  newer["rope_parameters"].erase("type");
  newer["rope_parameters"]["rope_type"] = "yarn";
  newer["rope_parameters"]["rope_theta"] = 10000.0;
  EXPECT_EQ(parse(newer), parse(released));
  EXPECT_EQ(parse(with(newer, "rope_scaling", released["rope_scaling"])), parse(released));
  EXPECT_ERROR(parse(with(newer, "rope_scaling", {{"type", "linear"}, {"factor", 2}})), kConfig,
               "rope_scaling and rope_parameters contradict each other");
}

// What the golden files' makers leave out or write otherwise is read without a warning.
TEST(Config, ReadsEveryGoldenConfig) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() / "tests/golden")) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().filename().string());
    ConfigWarnings warnings;
    const ModelConfig config = load_config(entry.path(), warnings);
    EXPECT_THAT(warnings.lines, IsEmpty());
    EXPECT_EQ(architecture_for(config), config.architecture);
    ++count;
  }
  EXPECT_GE(count, 30);
}

TEST(Config, FillsInTransformersDefaults) {
  const ModelConfig v3 = parse({{"architectures", {"DeepseekV3ForCausalLM"}}});
  ModelConfig released = parse(corpus("deepseek_v3.json"));
  released.max_position_embeddings = 4096;
  released.rope_scaling = {};
  released.num_nextn_predict_layers = 0;
  released.weight_block_size.clear();
  released.dtype = DType::kF32;
  EXPECT_EQ(v3, released);
  EXPECT_ERROR(parse({{"architectures", {"DeepseekV2ForCausalLM"}}}), kConfig,
               "num_experts_per_tok is 0");
  const ModelConfig v2 =
      parse({{"architectures", {"DeepseekV2ForCausalLM"}}, {"num_experts_per_tok", 6}});
  EXPECT_EQ(v2.moe_intermediate_size, 1407);
  EXPECT_EQ(v2.first_k_dense_replace, 0);
  EXPECT_EQ(v2.topk_method, "greedy");
  EXPECT_EQ(v2.scoring_func, "softmax");
  EXPECT_EQ(v2.bos_token_id, 1);
  const ModelConfig llama = parse({{"model_type", "llama"}});
  EXPECT_EQ(llama.architecture, "LlamaForCausalLM");
  EXPECT_EQ(llama.vocab_size, 32000);
  EXPECT_EQ(llama.num_key_value_heads, 32);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6);
  const ModelConfig olmo = parse({{"architectures", {"Olmo2ForCausalLM"}}});
  EXPECT_EQ(olmo.vocab_size, 50304);
  EXPECT_EQ(olmo.rms_norm_eps, 1e-5);
  EXPECT_EQ(olmo.pad_token_id, 1);
  EXPECT_THAT(olmo.eos_token_ids, ElementsAre(50279));
}

TEST(Config, DropsDefaultTokensOutsideTheVocabulary) {
  Json json = small("Olmo2ForCausalLM");
  json.erase("eos_token_id");
  EXPECT_THAT(parse(json).eos_token_ids, IsEmpty());
  json["vocab_size"] = 1;
  json.erase("bos_token_id");
  EXPECT_EQ(parse(json).pad_token_id, std::nullopt);
  json["architectures"] = {"LlamaForCausalLM"};
  EXPECT_EQ(parse(json).bos_token_id, std::nullopt);
}

// Each of the four forms of YaRN's mscale, as transformers 5.23 treats them.
TEST(Config, ScalesCosSinAndSoftmaxByMscale) {
  const double ln = std::log(8.0), plain = 1 / std::sqrt(12.0);
  const auto cos_sin = [](const Json& json) { return parse(json).rope_params().attention_factor; };
  const auto softmax = [](const Json& json) { return double(parse(json).softmax_scale()); };
  const Json none = yarn(8, Json::object());
  EXPECT_DOUBLE_EQ(cos_sin(none), 0.1 * ln + 1);
  EXPECT_NEAR(softmax(none), plain, 1e-7);
  const Json only = yarn(8, {{"mscale", 0.5}});
  EXPECT_DOUBLE_EQ(cos_sin(only), 0.1 * ln + 1);
  EXPECT_NEAR(softmax(only), plain, 1e-7);
  const Json all_dim = yarn(8, {{"mscale_all_dim", 0.5}});
  EXPECT_DOUBLE_EQ(cos_sin(all_dim), 0.1 * ln + 1);
  EXPECT_NEAR(softmax(all_dim), plain * std::pow(0.05 * ln + 1, 2), 1e-7);
  const Json both = yarn(8, {{"mscale", 0.5}, {"mscale_all_dim", 1.5}});
  EXPECT_DOUBLE_EQ(cos_sin(both), (0.05 * ln + 1) / (0.15 * ln + 1));
  EXPECT_NEAR(softmax(both), plain * std::pow(0.15 * ln + 1, 2), 1e-7);
  // 0 is "not given"; attention_factor replaces the quotient and leaves the softmax scale.
  EXPECT_DOUBLE_EQ(cos_sin(yarn(8, {{"mscale", 0}, {"mscale_all_dim", 1}})), 0.1 * ln + 1);
  const Json given =
      yarn(8, {{"mscale", 0.5}, {"mscale_all_dim", 1.5}, {"attention_factor", 1.25}});
  EXPECT_EQ(cos_sin(given), 1.25);
  EXPECT_NEAR(softmax(given), plain * std::pow(0.15 * ln + 1, 2), 1e-7);
  // A factor of 1 scales nothing; a null one is the ratio of the contexts.
  EXPECT_EQ(cos_sin(yarn(1, {{"mscale", 2}})), 1);
  EXPECT_EQ(parse(yarn(1, {{"factor", nullptr}})).rope_params().factor, 8);
}

TEST(Config, ScalesTheSoftmaxOnlyInLatentAttention) {
  Json json = small("LlamaForCausalLM");
  json["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4}, {"mscale", 1}, {"mscale_all_dim", 2}};
  const ModelConfig c = parse(json);
  EXPECT_FLOAT_EQ(c.softmax_scale(), 1 / std::sqrt(8.0f));
  EXPECT_EQ(c.rope_params().original_max_position, 128);  // left out
  EXPECT_LT(c.rope_params().attention_factor, 1);
  // In latent attention whatever the type.
  Json linear = small("DeepseekV3ForCausalLM");
  linear["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4}, {"mscale_all_dim", 1}};
  EXPECT_NEAR(parse(linear).softmax_scale(), std::pow(0.1 * std::log(4.0) + 1, 2) / std::sqrt(12.0),
              1e-7);
  EXPECT_EQ(parse(linear).rope_params().attention_factor, 1);
}

TEST(Config, ReadsRopeDetails) {
  const RopeParams p =
      parse(
          yarn(8, {{"beta_fast", 16}, {"beta_slow", 2}, {"truncate", false}, {"rope_theta", 777}}))
          .rope_params();
  EXPECT_EQ(p.type, RopeParams::Type::kYarn);
  EXPECT_EQ(p.dim, 4);
  EXPECT_EQ(p.theta, 777);
  EXPECT_EQ(p.factor, 8);
  EXPECT_EQ(p.original_max_position, 16);
  EXPECT_EQ(p.beta_fast, 16);
  EXPECT_EQ(p.beta_slow, 2);
  EXPECT_FALSE(p.truncate);
  EXPECT_EQ(p.groups, 1);
  const RopeParams q = parse(yarn(8, {{"beta_fast", nullptr}, {"beta_slow", 0}})).rope_params();
  EXPECT_EQ(q.beta_fast, 32);
  EXPECT_EQ(q.beta_slow, 1);
  EXPECT_TRUE(q.truncate);
  // A key beside the object goes first.
  const Json outer = with(yarn(8, Json::object()), "original_max_position_embeddings", 64);
  EXPECT_EQ(parse(outer).rope_params().original_max_position, 64);
  Json linear = small("LlamaForCausalLM");
  linear["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 3}, {"rope_theta", 100}};
  EXPECT_EQ(parse(linear).rope_params().type, RopeParams::Type::kLinear);
  EXPECT_EQ(parse(linear).rope_params().factor, 3);
  EXPECT_EQ(parse(linear).rope_params().theta, 100);
  linear["rope_parameters"] = {{"rope_theta", 100}};  // the type left out
  EXPECT_EQ(parse(linear).rope_params().type, RopeParams::Type::kDefault);
  EXPECT_EQ(parse(linear).rope_params().theta, 100);
}

TEST(Config, TakesNullForLeftOutWhereThatMeansSomething) {
  Json json = small("DeepseekV3ForCausalLM");
  for (const char* key :
       {"q_lora_rank", "n_group", "topk_group", "n_shared_experts", "num_key_value_heads",
        "head_dim", "rope_scaling", "rope_parameters", "bos_token_id", "eos_token_id",
        "pad_token_id", "quantization_config", "torch_dtype", "num_nextn_predict_layers",
        "compression_config", "partial_rotary_factor", "hadal_attention", "mlp_bias"}) {
    json[key] = nullptr;
  }
  std::vector<std::string> lines;
  const ModelConfig c = parse(json, &lines);
  EXPECT_THAT(lines, IsEmpty());
  EXPECT_EQ(c.q_lora_rank, 0);
  EXPECT_EQ(c.n_group, 1);
  EXPECT_EQ(c.topk_group, 1);
  EXPECT_EQ(c.n_shared_experts, 0);
  EXPECT_EQ(c.bos_token_id, std::nullopt);
  EXPECT_THAT(c.eos_token_ids, IsEmpty());
  EXPECT_EQ(c.dtype, DType::kF32);
  EXPECT_EQ(parse(with(json, "rope_interleave", nullptr)).rope_interleave, false);
  EXPECT_EQ(parse(with(json, "norm_topk_prob", nullptr)).norm_topk_prob, false);
  EXPECT_EQ(parse(with(json, "first_k_dense_replace", nullptr)).first_k_dense_replace, 0);
  EXPECT_EQ(parse(with(json, "n_routed_experts", nullptr)).n_routed_experts, 0);
  EXPECT_EQ(parse(with(json, "pad_token_id", -1)).pad_token_id, std::nullopt);
  for (const char* key : {"hidden_size", "vocab_size", "kv_lora_rank", "v_head_dim"}) {
    EXPECT_ERROR(parse(with(json, key, nullptr)), kFormat, str(key, " is null"));
  }
}

TEST(Config, NamesUnknownKeysOnce) {
  Json json = small("LlamaForCausalLM");
  json["attention_dropout"] = 0.1;  // harmless
  json["banana"] = {{"deep", 1}};
  json["sliding_window"] = 4096;
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2}, {"beta_fast", 3}};
  std::vector<std::string> lines;
  parse(json, &lines);
  EXPECT_THAT(lines, ElementsAre("config.json: unknown keys, ignored: \"rope_scaling.beta_fast\", "
                                 "\"banana\", \"sliding_window\""));
  for (int i = 0; i < 1000; ++i) json[str("key", i)] = i;
  parse(json, &lines);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("and 983 more"));
  EXPECT_LT(lines[0].size(), 1000u);
}

TEST(Config, KnowsKeysOfOtherClasses) {
  // What the class has anyway says nothing new.
  std::vector<std::string> lines;
  Json json = small("DeepseekV3ForCausalLM");
  json.update(
      Json{{"mlp_bias", false}, {"head_dim", 4}, {"qk_head_dim", 12}, {"hadal_attention", "mla"}});
  parse(json, &lines);
  EXPECT_THAT(lines, IsEmpty());
  EXPECT_ERROR(parse(with(json, "mlp_bias", true)), kConfig,
               "mlp_bias is true, supported by DeepseekV3ForCausalLM: false");
  EXPECT_ERROR(parse(with(json, "hadal_rope_groups", 2)), kConfig,
               "hadal_rope_groups is 2, supported by DeepseekV3ForCausalLM: 1");
  EXPECT_ERROR(parse(with(small("LlamaForCausalLM"), "kv_lora_rank", 16)), kConfig,
               "kv_lora_rank is 16, supported by LlamaForCausalLM: 0");
  EXPECT_ERROR(parse(with(small("LlamaForCausalLM"), "num_experts", 4)), kConfig,
               "num_experts is 4, supported by LlamaForCausalLM: null");
  EXPECT_ERROR(parse(with(small("DeepseekV2ForCausalLM"), "rope_interleave", false)), kConfig,
               "rope_interleave is false, supported by DeepseekV2ForCausalLM: true");
  parse(with(json, "num_key_value_heads", 2), &lines);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("num_key_value_heads is 2 and has no effect")));
}

TEST(Config, TakesOtherNamesOfKeys) {
  Json json = small("DeepseekV3ForCausalLM");
  json["num_mtp_layers"] = 2;
  EXPECT_EQ(parse(json).num_nextn_predict_layers, 2);
  json["num_nextn_predict_layers"] = 2;
  EXPECT_EQ(parse(json).num_nextn_predict_layers, 2);
  json["num_nextn_predict_layers"] = 1;
  EXPECT_ERROR(parse(json), kConfig, "num_nextn_predict_layers is 1, but num_mtp_layers is 2");
  EXPECT_EQ(parse(with(small("LlamaForCausalLM"), "dtype", "torch.float16")).dtype, DType::kF16);
}

TEST(Config, RefusesOtherClassesByName) {
  for (const char* name : {"DeepseekV32ForCausalLM", "Qwen2ForCausalLM", "DeepseekV3Model",
                           "DeepseekV4ForCausalLM", ""}) {
    EXPECT_ERROR(parse({{"architectures", {name}}}), kConfig,
                 str("architectures is [\"", name,
                     "\"], supported: DeepseekV3ForCausalLM, DeepseekV2ForCausalLM, "
                     "Olmo2ForCausalLM, LlamaForCausalLM, HadalForCausalLM"));
  }
  EXPECT_ERROR(parse({{"model_type", "mixtral"}}), kConfig, "model_type is \"mixtral\", supported");
  EXPECT_ERROR(parse(Json::object()), kConfig, "neither architectures nor model_type");
  EXPECT_ERROR(parse({{"architectures", Json::array()}}), kConfig, "a list of one class");
  EXPECT_ERROR(parse(Json::array()), kFormat, "config.json is [], expected an object");
  EXPECT_EQ(parse(with(small("DeepseekV3ForCausalLM"), "model_type", "kimi_k2")).architecture,
            "DeepseekV3ForCausalLM");
}

// Every number of the list is held to its range, every word to its values.
TEST(Config, HoldsEveryKeyToItsRange) {
  int checked = 0;
  for (const ConfigField& field : config_fields()) {
    for (const char* kind : {"mla", "gqa"}) {
      Json json = small("HadalForCausalLM");
      json["hadal_attention"] = kind;
      json["head_dim"] = 8;
      if (!field_used(field, parse(json))) continue;
      const std::string name(field.name);
      const bool whole = std::holds_alternative<int64_t ModelConfig::*>(field.member);
      if (!field.values.empty()) {
        EXPECT_ERROR(parse(with(json, name, "banana")), kConfig,
                     name + " is \"banana\", supported: " +
                         std::string(field.values.substr(0, field.values.find(','))));
      } else if (whole || std::holds_alternative<double ModelConfig::*>(field.member)) {
        const double step = whole ? 1 : field.max;
        if (name != "first_k_dense_replace") {  // beyond the last layer all are dense
          EXPECT_ERROR(parse(with(json, name, field.max + step)), kConfig, name + " is ");
        }
        EXPECT_ERROR(parse(with(json, name, field.min - step)), kConfig, name + " is ");
        EXPECT_ERROR(parse(with(json, name, "7")), kFormat, name + " is \"7\", expected");
        if (whole) EXPECT_ERROR(parse(with(json, name, 2.5)), kFormat, "expected an integer");
        if (whole) EXPECT_ERROR(parse(with(json, name, uint64_t{1} << 63)), kFormat, name);
        ++checked;
      }
    }
  }
  EXPECT_GE(checked, 40);
}

TEST(Config, ChecksWhatMustFitTogether) {
  const Json v3 = small("DeepseekV3ForCausalLM");
  const auto wrong = [&](const char* key, const Json& value, const char* message) {
    EXPECT_ERROR(parse(with(v3, key, value)), kConfig, message);
  };
  wrong("num_experts_per_tok", 9, "num_experts_per_tok is 9, expected at most n_routed_experts 8");
  wrong("n_group", 3, "n_group is 3, expected a divisor of n_routed_experts 8");
  wrong("topk_group", 5, "topk_group is 5, expected at most n_group 4");
  wrong("num_experts_per_tok", 5, "but topk_group 2 groups of 2 experts hold only 4");
  wrong("n_group", 8, "a group is scored by its two best experts");
  wrong("qk_rope_head_dim", 5, "qk_rope_head_dim is 5, expected an even number");
  wrong("eos_token_id", 64, "eos_token_id is 64, expected 0 .. vocab_size - 1 = 63");
  wrong("eos_token_id", {3, -2}, "eos_token_id is -2, expected 0");
  wrong("bos_token_id", 64, "bos_token_id is 64");
  wrong("pad_token_id", 64, "pad_token_id is 64");
  wrong("hidden_act", "gelu", "hidden_act is \"gelu\", supported by DeepseekV3ForCausalLM: silu");
  wrong("scoring_func", "softmax",
        "scoring_func is \"softmax\", supported by DeepseekV3ForCausalLM: sigmoid");
  wrong("topk_method", "greedy",
        "topk_method is \"greedy\", supported by DeepseekV3ForCausalLM: noaux_tc");
  wrong("moe_layer_freq", 2, "moe_layer_freq is 2, supported by DeepseekV3ForCausalLM: 1");
  wrong("torch_dtype", "int8", "torch_dtype is \"int8\", supported: float32, bfloat16, float16");
  EXPECT_ERROR(parse(with(small("DeepseekV2ForCausalLM"), "norm_topk_prob", true)), kConfig,
               "norm_topk_prob is true, supported by DeepseekV2ForCausalLM: false");
  Json llama = small("LlamaForCausalLM");
  EXPECT_ERROR(parse(with(llama, "num_key_value_heads", 3)), kConfig,
               "num_key_value_heads is 3, expected a divisor of num_attention_heads 4");
  EXPECT_ERROR(parse(with(llama, "head_dim", 7)), kConfig, "head_dim is 7, expected an even");
  EXPECT_ERROR(parse(with(llama, "hidden_size", 30)), kConfig,
               "hidden_size is 30, which num_attention_heads 4 does not divide");
  EXPECT_EQ(parse(with(with(llama, "hidden_size", 30), "head_dim", 8)).head_dim, 8);
  Json own = small("HadalForCausalLM");
  EXPECT_ERROR(parse(with(own, "hadal_rope_groups", 3)), kConfig,
               "hadal_rope_groups is 3, expected a divisor of num_attention_heads 4");
  EXPECT_ERROR(parse(with(own, "hadal_ffn", "gelu")), kConfig, "hidden_act is \"silu\"");
  own["hidden_act"] = "gelu_pytorch_tanh";
  EXPECT_EQ(parse(with(own, "hadal_ffn", "gelu")).hadal_ffn, "gelu");
  EXPECT_ERROR(parse(own), kConfig, "has silu");
}

TEST(Config, BoundsWhatWouldBeAllocated) {
  Json json = small("HadalForCausalLM");
  json.update(Json{{"num_hidden_layers", 4096}, {"n_routed_experts", 65536}});
  EXPECT_ERROR(parse(json), kConfig, "tensors, expected at most 1.04858e+06");
  json["n_routed_experts"] = 8;
  EXPECT_EQ(parse(json).num_hidden_layers, 4096);
  json.update(Json{{"hidden_size", 1 << 20}, {"intermediate_size", 1 << 20}});
  EXPECT_ERROR(parse(json), kConfig, "parameters, expected at most");
  json["hidden_size"] = 32;
  json.update(Json{{"hadal_attention", "gqa"},
                   {"head_dim", 1 << 16},
                   {"num_attention_heads", 1 << 16},
                   {"hidden_size", 1 << 16}});
  EXPECT_ERROR(parse(json), kConfig, "parameters, expected at most");
}

TEST(Config, RefusesOtherRopes) {
  const auto rope = [](const Json& value) {
    return with(small("DeepseekV3ForCausalLM"), "rope_scaling", value);
  };
  EXPECT_ERROR(parse(rope({{"type", "dynamic"}, {"factor", 2}})), kConfig,
               "rope_scaling.type is \"dynamic\", supported: default, linear, yarn, llama3");
  EXPECT_ERROR(parse(rope({{"type", "yarn"}, {"rope_type", "linear"}, {"factor", 2}})), kConfig,
               "rope_scaling.type is \"yarn\", but rope_type is \"linear\"");
  EXPECT_ERROR(parse(rope({{"factor", 2}})), kConfig, "has \"factor\" but no rope_type");
  EXPECT_ERROR(parse(rope({{"type", "yarn"}})), kConfig, "rope_scaling has no factor");
  EXPECT_ERROR(parse(rope({{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", 1}})), kConfig,
               "rope_scaling has no high_freq_factor");
  EXPECT_ERROR(parse(rope(7)), kFormat, "rope_scaling is 7, expected an object");
  EXPECT_ERROR(parse(rope({{"type", "linear"}, {"factor", 0.5}})), kConfig,
               "rope_scaling.factor is 0.5, expected 1 .. 1e6");
  const auto bad = [&](const char* key, const Json& value) {
    EXPECT_ERROR(parse(yarn(8, {{key, value}})), kConfig, str("rope_scaling.", key, " is "));
  };
  bad("factor", 1e300);
  bad("original_max_position_embeddings", -1);
  bad("original_max_position_embeddings", 1 << 25);
  bad("beta_slow", -1);
  bad("beta_fast", 0.5);
  bad("mscale", -1);
  bad("mscale_all_dim", 1e6);
  bad("attention_factor", 0);
  bad("partial_rotary_factor", 0.5);
  EXPECT_ERROR(parse(yarn(8, {{"truncate", 1}})), kFormat, "rope_scaling.truncate is 1");
  EXPECT_ERROR(
      parse(rope(
          {{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 4}})),
      kConfig, "rope_scaling.high_freq_factor is 4");
  EXPECT_ERROR(
      parse(rope(
          {{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", -1}, {"high_freq_factor", 4}})),
      kConfig, "rope_scaling.low_freq_factor is -1");
  EXPECT_ERROR(parse(with(small("LlamaForCausalLM"), "partial_rotary_factor", 0.5)), kConfig,
               "partial_rotary_factor is 0.5, supported: 1");
}

TEST(Config, ReadsOnlyBlockFp8) {
  const auto quant = [](const Json& more) {
    Json json = corpus("deepseek_v3.json");
    json["quantization_config"].update(more);
    return json;
  };
  EXPECT_EQ(parse(quant({{"scale_fmt", "ue8m0"}})).scale_fmt, "ue8m0");
  EXPECT_EQ(parse(quant({{"scale_fmt", "float"}})).scale_fmt, "");
  EXPECT_THAT(parse(quant({{"weight_block_size", {64, 32}}})).weight_block_size,
              ElementsAre(64, 32));
  for (const char* method : {"awq", "gptq", "bitsandbytes", "compressed-tensors"}) {
    EXPECT_ERROR(parse(quant({{"quant_method", method}})), kConfig,
                 str("quantization_config.quant_method is \"", method, "\", supported: fp8"));
  }
  EXPECT_ERROR(parse(quant({{"quant_method", nullptr}})), kConfig, "quant_method is missing");
  EXPECT_ERROR(parse(quant({{"fmt", "e5m2"}})), kConfig, "fmt is \"e5m2\", supported: e4m3");
  EXPECT_ERROR(parse(quant({{"activation_scheme", "static"}})), kConfig, "supported: dynamic");
  EXPECT_ERROR(parse(quant({{"scale_fmt", "fp4"}})), kConfig, "supported: float, ue8m0");
  EXPECT_ERROR(parse(quant({{"expert_dtype", "fp4"}})), kConfig, "supported: fp8");
  EXPECT_ERROR(parse(quant({{"weight_block_size", {128}}})), kConfig, "expected two numbers");
  EXPECT_ERROR(parse(quant({{"weight_block_size", {128, 0}}})), kConfig, "weight_block_size has 0");
  EXPECT_ERROR(parse(quant({{"weight_block_size", nullptr}})), kFormat, "expected an array");
  EXPECT_ERROR(parse(with(small("LlamaForCausalLM"), "compression_config", {{"a", 1}})), kConfig,
               "compression_config is");
}

TEST(Config, LimitsTheListOfEndTokens) {
  const Json ids(std::vector<int64_t>(1025, 1));
  EXPECT_ERROR(parse(with(small("LlamaForCausalLM"), "eos_token_id", ids)), kConfig,
               "eos_token_id lists 1025 tokens, expected at most 1024");
}

TEST(Config, LoadsAFolderWithItsEndTokens) {
  const fs::path folder = scratch_dir();
  ConfigWarnings warnings;
  EXPECT_ERROR(load_config(folder, warnings), kIo, "config.json");
  write_file_atomically(folder / "config.json", small("LlamaForCausalLM").dump());
  EXPECT_THAT(load_config(folder, warnings).eos_token_ids, ElementsAre(1));
  write_file_atomically(folder / "generation_config.json",
                        R"({"eos_token_id": [2, 3], "bos_token_id": null, "temperature": 0.6})");
  const ModelConfig config = load_config(folder, warnings);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ(config.bos_token_id, 0);
  // Named outright, the file stands alone.
  EXPECT_THAT(load_config(folder / "config.json", warnings).eos_token_ids, ElementsAre(1));
  write_file_atomically(folder / "generation_config.json", R"({"eos_token_id": 64})");
  EXPECT_ERROR(load_config(folder, warnings), kConfig,
               "generation_config.json: eos_token_id is 64");
  write_file_atomically(folder / "generation_config.json", "[]");
  EXPECT_ERROR(load_config(folder, warnings), kFormat, "generation_config.json");
  write_file_atomically(folder / "config.json", "{\"architectures\": [\"LlamaForCausalLM\"");
  EXPECT_ERROR(load_config(folder, warnings), kFormat, "not valid JSON");
}

}  // namespace
}  // namespace hadal
