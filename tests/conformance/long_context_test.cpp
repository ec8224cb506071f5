// All of 131,072 tokens through a tiny model with YaRN, as DeepSeek-V3 was extended (sec. 4.3):
// the last positions against double precision, by the prompt's path and the generated tokens'.
#include "tests/conformance/variants.h"
#include "tests/reference/reference.h"
#include "tests/support/sanitizers.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr int64_t kTokens = 131'072, kLast = 8, kChunk = 4096;

std::unique_ptr<Transformer> long_model(double factor) {
  auto model = make_model(variants().front(), [&](ModelConfig& c) {
    c.num_hidden_layers = c.first_k_dense_replace = 1;
    c.num_attention_heads = c.num_key_value_heads = 1;
    c.num_nextn_predict_layers = c.q_lora_rank = 0;
    c.kv_lora_rank = 16;
    c.qk_nope_head_dim = c.qk_rope_head_dim = c.v_head_dim = 8;
    c.max_position_embeddings = kTokens;
    c.rope_scaling.type = "yarn";
    c.rope_scaling.factor = factor;
    c.rope_scaling.original_max_position_embeddings = 4096;
    c.rope_scaling.mscale = c.rope_scaling.mscale_all_dim = 1;
  });
  // Sharp attention, so that it matters where a key stands.
  for (const char* name : {"q_proj", "kv_a_proj_with_mqa"}) {
    const Out1 w =
        model->params().find(str("model.layers.0.self_attn.", name, ".weight"))->vec_mut();
    for (int64_t i = 0; i < w.size(); ++i) w.data()[i] *= 3;
  }
  return model;
}

// Rows of ids[first ...] on a path, in chunks; logits of the last ones.
void run(Transformer& model, KvCache& cache, KvCache::Sequence sequence, Path path, Ids ids,
         int64_t first, Out2 last) {
  Arena scratch;
  const int64_t hidden = model.config().hidden_size;
  for (int64_t done = 0; done < ids.size(); done += kChunk) {
    const Arena::Scope scope(scratch);
    const int64_t n = std::min(kChunk, ids.size() - done);
    std::vector<int32_t> positions;
    for (int64_t t = 0; t < n; ++t) positions.push_back(int32_t(first + done + t));
    const StepSpan span{0, n, sequence, first + done};
    cache.extend(sequence, n);
    StepPass pass{path, cache, scratch, view(positions), {&span, 1}, Precision::kFp32};
    const Out2 h = scratch.floats(n, hidden);
    model.step({ids.data() + done, {n}}, pass, h);
    const int64_t wanted = std::min(n, last.dim(0));
    if (done + n == ids.size()) model.head(h.rows(n - wanted, n), pass, last);
  }
}

double largest_difference(In2 got, const reference::Rows& want) {
  double worst = 0, size = 0;
  for (int64_t t = 0; t < got.dim(0); ++t) {
    for (int64_t v = 0; v < got.dim(1); ++v) {
      worst = std::max(worst, std::abs(double(got.row(t)[v]) - want[size_t(t)][size_t(v)]));
      size = std::max(size, std::abs(want[size_t(t)][size_t(v)]));
    }
  }
  return worst / size;
}

TEST(LongContext, the_last_of_131072_tokens_agree_with_double_precision) {
  if (kSlowBuild) GTEST_SKIP() << "8.6e9 pairs of tokens take a sanitizer minutes";
  constexpr double kBound = 3e-5;  // of the largest logit; 1.1e-5 was measured
  const auto model = long_model(32);
  const std::vector<int32_t> ids = some_ids(kTokens, 3);
  const reference::Rows want = reference::Model(*model).last_logits(ids, kLast);

  KvCache cache(model->cache_specs(), DType::kF32);
  const KvCache::Sequence sequence = cache.add_sequence();
  Matrix prompt({kLast, 48}), generated({kLast, 48});
  run(*model, cache, sequence, Path::kPrompt, view(ids), 0, prompt);
  EXPECT_LT(largest_difference(prompt, want), kBound);
  cache.truncate(sequence, kTokens - kLast);
  run(*model, cache, sequence, Path::kGenerated, {ids.data() + kTokens - kLast, {kLast}},
      kTokens - kLast, generated);
  EXPECT_LT(largest_difference(generated, want), kBound);

  // Another factor is far from that.
  const reference::Rows other = reference::Model(*long_model(40)).last_logits(ids, kLast);
  EXPECT_GT(largest_difference(prompt, other), 100 * kBound);
}

}  // namespace
}  // namespace hadal
