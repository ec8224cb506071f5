#include "model/memory.h"

#include "core/files.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

ModelConfig shape(const char* name) {
  ConfigWarnings warnings;
  return load_config(source_dir() / "bench/shapes" / name, warnings);
}

TEST(Memory, WeightsAreTheirBytesInTheFormat) {
  const ModelConfig c = shape("S.json");
  const Inspection facts = inspect_model(c);
  const MemoryPlan bf16 = plan_memory(c, find_model_format("bf16"), {1024, 1});
  int64_t small = 0;  // numbers that are FP32 in memory whatever the format
  const Transformer model(c);
  for (const Param& p : model.params().all()) {
    if (p.always_f32() && p.group != ParamGroup::kRouterBias) small += p.size();
  }
  EXPECT_EQ(bf16.weights.total() + bf16.mtp.total(),
            2 * (facts.parts.total() + facts.mtp.total() + small) + 4 * facts.routing_biases);
  for (const Inspection::OwnFormat& own : facts.own_formats) {
    const MemoryPlan plan = plan_memory(c, find_model_format(own.name), {1024, 1});
    EXPECT_EQ(plan.weights.total() + plan.mtp.total(), own.bytes + 2 * small) << own.name;
  }
  const MemoryPlan fp8 = plan_memory(c, find_model_format("fp8"), {1024, 1});
  EXPECT_GT(fp8.weights.attention, facts.parts.attention) << "codes and their scales";
  EXPECT_LT(double(fp8.weights.attention), 1.001 * double(facts.parts.attention));
}

TEST(Memory, CacheAndStepsGrowWithTextsAndContext) {
  const ModelConfig c = shape("S.json");
  const Inspection facts = inspect_model(c);
  const ModelFormat& int8 = find_model_format("int8");
  const MemoryPlan one = plan_memory(c, int8, {1000, 1}), four = plan_memory(c, int8, {2000, 4});
  EXPECT_EQ(one.cache, 1000 * (facts.kv_bytes + facts.mtp_kv_bytes));
  EXPECT_EQ(four.cache, 8 * one.cache);
  EXPECT_GT(four.working, one.working);
  // Experts that one token reads are its own; many tokens reach all.
  EXPECT_DOUBLE_EQ(touched_experts(c, 1),
                   double(c.num_experts_per_tok) / double(c.n_routed_experts));
  EXPECT_GT(touched_experts(c, 1000), 0.999);
  EXPECT_LT(four.step_bytes, 4 * one.step_bytes + double(four.cache));
}

TEST(Memory, WhatCannotBeIsAnError) {
  const ModelConfig c = shape("S.json");
  const ModelFormat& int4 = find_model_format("int4");
  EXPECT_ERROR(plan_memory(c, int4, {-1, 1}), kUsage, "a context of -1 tokens");
  EXPECT_ERROR(plan_memory(c, int4, {c.max_position_embeddings + 1, 1}), kUsage,
               "max_position_embeddings");
  EXPECT_ERROR(plan_memory(c, int4, {10, 0}), kUsage, "0 texts at a time");
}

TEST(Memory, SmallerRowsMakeASmallerCache) {
  const ModelConfig c = shape("S.json");
  const ModelFormat& int8 = find_model_format("int8");
  const MemoryPlan bf16 = plan_memory(c, int8, {}),
                   fp8 = plan_memory(c, int8, {0, 1, DType::kF8E4M3});
  EXPECT_EQ(bf16.context, 8192) << "where nothing is said";
  EXPECT_LT(double(fp8.cache), 0.7 * double(bf16.cache));
  EXPECT_LT(fp8.step_bytes, bf16.step_bytes);
}

TEST(Memory, TooMuchIsRefusedWithAllFigures) {
  const MemoryPlan plan = plan_memory(shape("S.json"), find_model_format("int8"), {4096, 2});
  MachineMemory here{1'000'000'000'000, plan.total()};
  EXPECT_NO_THROW(check_memory(plan, here, "S"));
  EXPECT_NO_THROW(check_memory(plan, {0, 0}, "S")) << "nobody knows what this machine has";
  here.available -= 1;
  try {
    check_memory(plan, here, "S", "take a larger machine");
    FAIL() << "was not refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kResource);
    const std::string message = e.what(), table = memory_text(plan, here, 1e9);
    const size_t begin = message.find("Memory for weights in int8");
    ASSERT_NE(begin, message.npos) << message;
    EXPECT_EQ(message.substr(0, begin), "S does not fit into memory; take a larger machine\n");
    EXPECT_TRUE(table.starts_with(message.substr(begin))) << "what inspect says:\n" << table;
    EXPECT_NE(message.find("2 texts of 4,096 tokens"), message.npos) << message;
    EXPECT_NE(message.find("it does not fit"), message.npos) << message;
  }
  EXPECT_ERROR(check_memory(plan, here, "S"), kResource, "S does not fit into memory\n");
}

}  // namespace
}  // namespace hadal
