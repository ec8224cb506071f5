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
  const MemoryPlan bf16 = plan_memory(c, find_model_format("bf16"), 1024, 1);
  EXPECT_EQ(bf16.weights.total() + bf16.mtp.total(),
            2 * (facts.parts.total() + facts.mtp.total()) + 4 * facts.routing_biases);
  for (const Inspection::OwnFormat& own : facts.own_formats) {
    const MemoryPlan plan = plan_memory(c, find_model_format(own.name), 1024, 1);
    EXPECT_EQ(plan.weights.total() + plan.mtp.total(), own.bytes) << own.name;
  }
  const MemoryPlan fp8 = plan_memory(c, find_model_format("fp8"), 1024, 1);
  EXPECT_GT(fp8.weights.attention, facts.parts.attention) << "codes and their scales";
  EXPECT_LT(double(fp8.weights.attention), 1.001 * double(facts.parts.attention));
}

TEST(Memory, CacheAndStepsGrowWithTextsAndContext) {
  const ModelConfig c = shape("S.json");
  const Inspection facts = inspect_model(c);
  const ModelFormat& int8 = find_model_format("int8");
  const MemoryPlan one = plan_memory(c, int8, 1000, 1), four = plan_memory(c, int8, 2000, 4);
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
  EXPECT_ERROR(plan_memory(c, int4, 0, 1), kUsage, "a context of 0 tokens");
  EXPECT_ERROR(plan_memory(c, int4, c.max_position_embeddings + 1, 1), kUsage,
               "max_position_embeddings");
  EXPECT_ERROR(plan_memory(c, int4, 10, 0), kUsage, "0 texts at a time");
}

TEST(Memory, TheMachineHasSome) {
  const MachineMemory here = machine_memory();
  EXPECT_GT(here.available, 0);
  EXPECT_GE(here.total, here.available);
}

}  // namespace
}  // namespace hadal
