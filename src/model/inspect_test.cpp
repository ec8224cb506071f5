#include "model/inspect.h"

#include <gmock/gmock.h>

#include "core/files.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using testing::HasSubstr;

ModelConfig released(const std::string& name) {
  ConfigWarnings warnings;
  return load_config(source_dir() / "tests/fuzz/corpus/config" / (name + ".json"), warnings);
}

TEST(Inspect, OperationsOfTraining) {
  const Inspection x = inspect_model(released("deepseek_v3"));
  // 36.6e9 of the model, 61 + 1 layers of 128 heads of 192 + 128, one module with the head again.
  const double matrices = 36'624'596'992.0 + double(x.mtp_active) + 129280.0 * 7168;
  const double attention = 62.0 * 128 * (192 + 128) * 4097 / 2;
  EXPECT_DOUBLE_EQ(training_flops_per_token(x, 4096), 6 * (matrices + attention));
}

// The report's and the released files' figures.
TEST(Inspect, CountsDeepseekV3) {
  const Inspection x = inspect_model(released("deepseek_v3"));
  EXPECT_EQ(x.parts.total(), 671'026'404'352);
  EXPECT_EQ(x.parts.embedding, 129280 * 7168);
  EXPECT_EQ(x.parts.head, 129280 * 7168);
  EXPECT_EQ(x.parts.dense, int64_t{3} * 3 * 7168 * 18432);
  EXPECT_EQ(x.parts.routed_experts, int64_t{58} * 256 * 3 * 7168 * 2048);
  EXPECT_EQ(x.parts.shared_experts, int64_t{58} * 3 * 7168 * 2048);
  EXPECT_EQ(x.parts.router, 58 * 256 * 7168);
  EXPECT_EQ(x.parts.norms, 61 * (2 * 7168 + 1536 + 512) + 7168);
  EXPECT_EQ(x.parts.attention, int64_t{61} * (7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 +
                                              512 * 128 * 256 + 128 * 128 * 7168));
  EXPECT_EQ(x.parts.projection, 0);
  EXPECT_EQ(x.routing_biases, 59 * 256);
  // Everything but norms, the embedding and the experts not chosen.
  EXPECT_EQ(x.active, x.parts.total() - x.parts.norms - x.parts.embedding -
                          x.parts.routed_experts / 256 * 248);
  EXPECT_EQ(x.active, 36'624'596'992);
  EXPECT_EQ(x.mtp.total(), 11'610'067'968);
  EXPECT_EQ(x.mtp.projection, 2 * 7168 * 7168);
  EXPECT_EQ(x.mtp.norms, 5 * 7168 + 1536 + 512);
  EXPECT_EQ(x.mtp_active, x.mtp.total() - x.mtp.norms - x.mtp.routed_experts / 256 * 248);
  EXPECT_EQ(x.kv_bytes, 70'272);
  EXPECT_EQ(x.mtp_kv_bytes, 1'152);
  EXPECT_EQ(x.kv_bytes_mha, 3'997'696);
  EXPECT_EQ(x.kv_bytes_gqa8, 8 * 256 * 61 * 2);
  EXPECT_EQ(x.kv_bytes_mqa, 256 * 61 * 2);
  EXPECT_EQ(x.attention_flops_per_layer, 278'528);
  EXPECT_EQ(x.attention_flops, 278'528 * 61);
  EXPECT_EQ(x.weight_flops, 2 * x.active);
}

// The released files are 688,586,727,753 bytes; 163 headers are the difference.
TEST(Inspect, CountsTheReleasedFilesOfDeepseekV3) {
  const Inspection x = inspect_model(released("deepseek_v3"));
  const int64_t headers = 688'586'727'753 - x.bytes_fp8;
  EXPECT_GT(headers, 0);
  EXPECT_LT(headers, 20'000'000);
  const int64_t stored = x.parts.total() + x.mtp.total() + 2 * x.parts.embedding;
  EXPECT_EQ(x.bytes_bf16, 2 * stored + 4 * x.routing_biases);
  EXPECT_EQ(x.bytes_f32, 4 * (stored + x.routing_biases));
}

// total_size of the released indexes.
TEST(Inspect, CountsOtherReleasedFiles) {
  const Inspection lite = inspect_model(released("deepseek_v2_lite"));
  EXPECT_EQ(lite.bytes_bf16, 31'412'968'448);
  EXPECT_EQ(lite.kv_bytes, 576 * 27 * 2);
  EXPECT_EQ(lite.routing_biases, 0);
  EXPECT_EQ(lite.mtp.total(), 0);
  EXPECT_EQ(lite.mtp_active, 0);
  EXPECT_EQ(lite.parts.shared_experts, int64_t{26} * 3 * 2048 * 2 * 1408);
  EXPECT_EQ(lite.active, lite.parts.total() - lite.parts.norms - lite.parts.embedding -
                             lite.parts.routed_experts / 64 * 58);
  const Inspection llama = inspect_model(released("llama_3_1_8b"));
  EXPECT_EQ(llama.bytes_bf16, 16'060'522'496);
  EXPECT_EQ(llama.kv_bytes, 131'072);
  EXPECT_EQ(llama.kv_bytes_mha, 524'288);
  EXPECT_EQ(llama.kv_bytes_gqa8, llama.kv_bytes);
  EXPECT_EQ(llama.attention_flops_per_layer, 4 * 4096);
  EXPECT_EQ(llama.parts.dense, int64_t{32} * 3 * 4096 * 14336);
  const Inspection olmo = inspect_model(released("olmo2_7b"));
  EXPECT_EQ(olmo.parts.total(), 7'298'617'344);
  EXPECT_EQ(olmo.parts.norms, 4096 + 32 * 4 * 4096);
}

TEST(Inspect, CountsBiasesWithTheirMatrices) {
  ModelConfig c = released("llama_yarn");  // tiny, with biases
  const Inspection with = inspect_model(c);
  c.attention_bias = c.mlp_bias = false;
  const Inspection without = inspect_model(c);
  const int64_t kv = 2 * c.num_key_value_heads * c.head_dim;
  EXPECT_EQ(with.parts.attention - without.parts.attention,
            c.num_hidden_layers * (2 * c.hidden_size + kv));
  EXPECT_EQ(with.parts.dense - without.parts.dense,
            c.num_hidden_layers * (2 * c.intermediate_size + c.hidden_size));
  EXPECT_EQ(with.active, without.active);
}

TEST(Inspect, CountsATiedHeadOnceButMultipliesByIt) {
  ModelConfig c = released("llama_3_1_8b");
  const Inspection untied = inspect_model(c);
  c.tie_word_embeddings = true;
  const Inspection tied = inspect_model(c);
  EXPECT_EQ(tied.parts.head, 0);
  EXPECT_EQ(tied.parts.total(), untied.parts.total() - untied.parts.head);
  EXPECT_EQ(tied.active, untied.active);
}

TEST(Inspect, HasNoMoreKeyHeadsThanQueryHeads) {
  ModelConfig c = released("v3_dense");  // tiny: 4 heads of 8 + 8
  const Inspection x = inspect_model(c);
  EXPECT_EQ(x.kv_bytes_gqa8, x.kv_bytes_mha);
  EXPECT_EQ(x.kv_bytes_mqa * 4, x.kv_bytes_mha);
}

TEST(Inspect, RefusesAConfigThatCannotBe) {
  ModelConfig c = released("llama_3_1_8b");
  c.num_key_value_heads = 3;
  EXPECT_ERROR(inspect_model(c), kConfig, "num_key_value_heads is 3");
}

TEST(Inspect, PrintsForPeopleAndPrograms) {
  const Inspection x = inspect_model(released("deepseek_v3"));
  const std::string text = inspection_text(x);
  EXPECT_THAT(text, HasSubstr("DeepseekV3ForCausalLM: 671.0B parameters, 36.6B active per token"));
  EXPECT_THAT(text, HasSubstr("671,026,404,352  671.0B"));
  EXPECT_THAT(text, HasSubstr("11,610,067,968  11.6B"));
  EXPECT_THAT(text, HasSubstr("70,272\n"));
  EXPECT_THAT(text, HasSubstr("3,997,696  56.9x"));
  EXPECT_THAT(text, HasSubstr("11.5 GB for 163,840 tokens"));
  EXPECT_THAT(text, HasSubstr("278,528 a layer"));
  const OrderedJson json = inspection_json(x);
  EXPECT_EQ(json["parameters"]["total"], 671'026'404'352);
  EXPECT_EQ(json["active_parameters"], 36'624'596'992);
  EXPECT_EQ(json["mtp"]["parameters"]["total"], 11'610'067'968);
  EXPECT_EQ(json["kv_bytes_per_token"]["model"], 70'272);
  EXPECT_EQ(json["kv_bytes_per_token"]["mha"], 3'997'696);
  EXPECT_EQ(json["flops_per_token"]["attention_per_cached_token_and_layer"], 278'528);
  EXPECT_EQ(json["storage_bytes"]["F8_E4M3"], x.bytes_fp8);
  EXPECT_EQ(json["config"]["num_hidden_layers"], 61);
  // What there is none of is not printed.
  const std::string llama = inspection_text(inspect_model(released("llama_3_1_8b")));
  EXPECT_EQ(llama.find("expert"), std::string::npos) << llama;
  EXPECT_EQ(llama.find("Multi-token"), std::string::npos) << llama;
}

TEST(Inspect, WritesNumbersForPeople) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-123456), "-123,456");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(short_count(999), "999");
  EXPECT_EQ(short_count(1500), "1.5K");
  EXPECT_EQ(short_count(45'000'000), "45.0M");
  EXPECT_EQ(short_count(671'026'404'352), "671.0B");
  EXPECT_EQ(short_count(1'000'000'000'000), "1.0T");
}

}  // namespace
}  // namespace hadal
