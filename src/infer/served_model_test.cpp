#include "infer/served_model.h"

#include <gtest/gtest.h>

#include "infer/bench.h"
#include "kernels/kernels.h"
#include "model/quantize.h"

namespace hadal {
namespace {

ModelConfig small() {
  ModelConfig c;
  c.vocab_size = 32;
  c.hidden_size = 32;
  c.intermediate_size = 32;
  c.num_hidden_layers = 1;
  c.num_attention_heads = c.num_key_value_heads = 2;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = c.v_head_dim = 16;
  c.qk_rope_head_dim = 8;
  c.first_k_dense_replace = 1;
  return c;
}

TEST(PromptPrecision, IsBf16WhereTheCpuHasItAndNoMatrixIsWider) {
  for (const Kernels* family : available_kernels()) {
    SCOPED_TRACE(family->family);
    const ScopedKernels scoped(*family);
    const bool dots = std::string_view(family->family) == "avx512_bf16";
    EXPECT_EQ(bf16_is_native(), dots);
    for (const char* format : {"bf16", "fp16", "fp8", "int8", "int4"}) {
      Transformer model(small());
      fill_randomly(model, find_model_format(format));
      EXPECT_EQ(prompt_precision(model.params()), dots ? Precision::kBf16 : Precision::kFp32)
          << format;
      for (Param& p : model.params().all()) {
        if (p.name == "model.layers.0.self_attn.o_proj.weight") p.dtype = DType::kF32;
      }
      EXPECT_EQ(prompt_precision(model.params()), Precision::kFp32) << format;
    }
  }
}

}  // namespace
}  // namespace hadal
