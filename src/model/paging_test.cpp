// Models larger than memory: refused with the figures, or run from their files.
#include "model/pretrained.h"
#include "model/quantize.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

Pretrained load_on(const fs::path& folder, const LoadOptions& options) {
  ConfigWarnings warnings;
  return load_pretrained(folder, options, warnings);
}

// A machine with so many bytes.
LoadOptions serving_on(int64_t bytes) {
  LoadOptions options;
  options.serving = ServingNeed{.context = 32};
  options.machine = MachineMemory{bytes, bytes};
  return options;
}

LoadOptions paging() {
  LoadOptions options = serving_on(1);
  options.allow_paging = true;
  return options;
}

// A prompt, then generated tokens: the bits of all logits.
std::vector<float> run(Transformer& model) {
  const std::vector<int32_t> ids{5, 6, 7, 8, 9, 10};
  constexpr int64_t kPrompt = 3;
  const auto tokens = static_cast<int64_t>(ids.size());
  KvCache cache(model.cache_specs(), DType::kBF16);
  const KvCache::Sequence sequence = cache.add_sequence();
  Arena scratch;
  std::vector<float> all;
  for (int64_t first = 0; first < tokens;) {
    const int64_t count = first == 0 ? kPrompt : 1;
    cache.extend(sequence, count);
    std::vector<int32_t> positions;
    for (int64_t t = 0; t < count; ++t) positions.push_back(static_cast<int32_t>(first + t));
    const StepSpan span{0, count, sequence, first};
    const Arena::Scope scope(scratch);
    StepPass pass{first == 0 ? Path::kPrompt : Path::kGenerated,
                  cache,
                  scratch,
                  {positions.data(), {count}},
                  {&span, 1}};
    const Out2 h = scratch.floats(count, model.config().hidden_size);
    model.step({ids.data() + first, {count}}, pass, h);
    const Out2 logits = scratch.floats(count, model.config().vocab_size);
    model.head(h, pass, logits);
    for (int64_t t = 0; t < count; ++t) {
      all.insert(all.end(), logits.row(t), logits.row(t) + logits.dim(1));
    }
    first += count;
  }
  return all;
}

fs::path quantized(const char* format) {
  ConfigWarnings warnings;
  const fs::path folder = scratch_dir() / format;
  quantize_model(golden_dir("v3_plain"), folder, find_model_format(format), {}, warnings);
  return folder;
}

TEST(Paging, ModelsThatDoNotFitAreRefusedWithTheFigures) {
  const fs::path folder = golden_dir("v3_fp8");
  const Pretrained fits = load_on(folder, serving_on(int64_t{1} << 40));
  const MemoryPlan plan = plan_memory(*fits.model, "fp8", {.context = 32});
  EXPECT_EQ(plan.weights.total() + plan.mtp.total(), fits.model->params().value_bytes())
      << "weights as they are held";
  EXPECT_NO_THROW(load_on(folder, serving_on(plan.total())));
  try {
    load_on(folder, serving_on(plan.total() - 1));
    FAIL() << "was not refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kResource);
    const std::string message = e.what();
    for (const std::string& part :
         {folder.string(), std::string("--allow-paging"), std::string("weights in fp8"),
          with_commas(plan.weights.routed_experts), with_commas(plan.cache),
          with_commas(plan.working), with_commas(plan.total()), with_commas(plan.total() - 1),
          std::string("1 text of 32 tokens")}) {
      EXPECT_NE(message.find(part), message.npos) << part << " in\n" << message;
    }
  }
}

// FP32 copies of BF16 weights are what then has to fit.
TEST(Paging, WeightsCountAsTheyWillBeHeld) {
  const fs::path folder = quantized("bf16");
  const int64_t stored = load_on(folder, {}).model->params().value_bytes();
  LoadOptions options = serving_on(1);
  options.values = LoadOptions::Values::kF32;
  EXPECT_ERROR(load_on(folder, options), kResource, "weights in fp32");
  const MemoryPlan plan = plan_memory(*load_on(folder, {}).model, "bf16", {.context = 32});
  options.machine = MachineMemory{plan.total(), plan.total()};
  EXPECT_ERROR(load_on(folder, options), kResource, "does not fit");
  options.machine->available += stored;  // at least as much as it grows
  EXPECT_NO_THROW(load_on(folder, options));
}

TEST(Paging, GivesTheSameBitsFromTheFiles) {
  for (const fs::path& folder : {golden_dir("v3_plain"), golden_dir("v3_fp8"), golden_dir("v3_mtp"),
                                 quantized("bf16"), quantized("int8"), quantized("int4")}) {
    SCOPED_TRACE(folder.string());
    EXPECT_ERROR(load_on(folder, serving_on(1)), kResource, "does not fit");
    const Pretrained usual = load_on(folder, {}), paged = load_on(folder, paging());
    ASSERT_NE(paged.files, nullptr);
    int experts = 0;
    for (const Param& p : paged.model->params().all()) {
      if (p.always_f32()) continue;
      EXPECT_TRUE(p.paged) << p.name;
      EXPECT_EQ(p.value, paged.files->view(p.name).data()) << p.name << " was copied";
      experts += p.expert ? 1 : 0;
    }
    EXPECT_GT(experts, 0);
    EXPECT_EQ(run(*paged.model), run(*usual.model));
    for (const Param& p : usual.model->params().all()) EXPECT_FALSE(p.paged) << p.name;
  }
}

TEST(Paging, WhatWouldBeCopiedIsRefused) {
  LoadOptions options = paging();
  options.values = LoadOptions::Values::kF32;
  EXPECT_ERROR(load_on(quantized("bf16"), options), kResource,
               "is BF16 and would be copied as F32");
  EXPECT_ERROR(load_on(quantized("int8"), options), kResource, "--allow-paging takes only weights");
  options.values = LoadOptions::Values::kBF16;
  EXPECT_ERROR(load_on(golden_dir("v3_fp8"), options), kResource,
               "is F8_E4M3 and would be copied as BF16");
}

}  // namespace
}  // namespace hadal
