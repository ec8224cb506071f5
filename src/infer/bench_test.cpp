#include "infer/bench.h"

#include <cmath>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr int64_t kTokens = 150, kWidth = 48;

std::vector<float> rows_of(const KvCache& cache, KvCache::Sequence sequence, int64_t layer) {
  std::vector<float> rows(static_cast<size_t>(kTokens * kWidth));
  cache.read(sequence, layer, 0, {rows.data(), {kTokens, kWidth}});
  return rows;
}

TEST(FillCache, RowsAreRandomNumbersOfDeviationOne) {
  for (DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    KvCache cache({{kWidth, 8}, {kWidth, 8}}, dtype);
    const KvCache::Sequence sequence = cache.add_sequence();
    cache.extend(sequence, kTokens);
    fill_cache(cache, sequence, kTokens);
    const std::vector<float> rows = rows_of(cache, sequence, 0),
                             other = rows_of(cache, sequence, 1);
    EXPECT_NE(rows, other) << "layers";
    for (int64_t t = 0; t < kTokens; ++t) {
      double squares = 0;
      for (int64_t i = 0; i < kWidth; ++i) squares += std::pow(rows[size_t(t * kWidth + i)], 2);
      EXPECT_NEAR(std::sqrt(squares / kWidth), 1, 0.35) << "token " << t;
      const auto row = [&](int64_t at) {
        const auto begin = rows.begin() + at * kWidth;
        return std::vector<float>(begin, begin + kWidth);
      };
      EXPECT_NE(row(t), row((t + 1) % kTokens)) << t;
      EXPECT_NE(row(t), row((t + KvCache::kPageTokens) % kTokens)) << t;
    }
  }
}

// The model decodes over such a cache, and reads as many bytes as the cache's rows have.
TEST(FillCache, DecodingReadsIt) {
  ModelConfig c;
  c.vocab_size = 40;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 2;
  c.num_attention_heads = c.num_key_value_heads = 2;
  c.max_position_embeddings = 400;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = c.v_head_dim = 12;
  c.qk_rope_head_dim = 8;
  c.n_routed_experts = 0;
  c.first_k_dense_replace = 2;
  Transformer model(c);
  fill_randomly(model, find_model_format("bf16"));
  for (DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    const int64_t row = 2 * KvCache({model.cache_specs()[0]}, dtype).bytes_per_token();
    ServingWork work{.depth = 300, .tokens = 2, .cache_dtype = dtype};
    const ServingTime deep = time_decode(model, work);
    EXPECT_GT(deep.tokens_per_s, 0);
    work.depth = 0;
    EXPECT_DOUBLE_EQ(deep.bytes_per_token - time_decode(model, work).bytes_per_token,
                     double(300 * row));
  }
  EXPECT_ERROR(time_decode(model, {.depth = 399, .tokens = 2}), kUsage, "do not fit the context");
}

}  // namespace
}  // namespace hadal
