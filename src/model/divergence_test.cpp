#include "model/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/pretrained.h"
#include "model/quantize.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

Pretrained load_plain(const fs::path& folder) {
  ConfigWarnings warnings;
  return load_pretrained(folder, {}, warnings);
}

TEST(Divergence, is_the_sum_it_says) {
  const std::vector<float> p{0, 1, 2, -1}, q{0.5f, 1, -3, 2};
  double sum_p = 0, sum_q = 0, want = 0;
  for (float v : p) sum_p += std::exp(double{v});
  for (float v : q) sum_q += std::exp(double{v});
  for (size_t i = 0; i < 4; ++i) {
    const double share = std::exp(double{p[i]}) / sum_p;
    want += share * std::log(share / (std::exp(double{q[i]}) / sum_q));
  }
  EXPECT_NEAR(kl_divergence(p, q), want, 1e-12);
  EXPECT_EQ(kl_divergence(p, p), 0);
  EXPECT_TRUE(std::isnan(kl_divergence(p, std::vector<float>{0, NAN, 0, 0})));
}

TEST(Divergence, counts_mean_percentile_and_agreement) {
  Divergence d;
  EXPECT_EQ(d.mean(), 0);
  EXPECT_EQ(d.percentile(0.99), 0);
  for (int i = 1; i <= 200; ++i) d.kl.push_back(float(201 - i));
  d.same_top = 150;
  EXPECT_DOUBLE_EQ(d.mean(), 100.5);
  EXPECT_EQ(d.percentile(0.99), 198);
  EXPECT_EQ(d.percentile(1), 200);
  EXPECT_EQ(d.top_agreement(), 0.75);
}

// Weights of the golden models are random, so differences are larger than a trained model's; the
// order of the formats is what they all share.
TEST(Divergence, of_formats_is_none_small_and_larger) {
  const fs::path original = golden_dir("v3_mtp");
  std::vector<int32_t> ids;
  const Pretrained reference = load_plain(original);
  for (int i = 0; i < 40; ++i) ids.push_back(int32_t(i * 7 % reference.model->config().vocab_size));
  const auto against = [&](const char* format) {
    const fs::path out = scratch_dir() / "out";
    ConfigWarnings warnings;
    quantize_model(original, out, find_model_format(format), {}, warnings);
    const Pretrained other = load_plain(out);
    Divergence d;
    compare_document(*other.model, *reference.model, ids, {.context = 16}, d);
    EXPECT_EQ(d.kl.size(), 39u);
    return d;
  };
  EXPECT_EQ(against("fp32").mean(), 0);
  EXPECT_EQ(against("fp32").top_agreement(), 1);
  const double int8 = against("int8").mean(), int4 = against("int4-uniform").mean();
  EXPECT_GT(int8, 0);
  EXPECT_LT(int8, 5e-3);
  EXPECT_GT(int4, 10 * int8);
}

TEST(Divergence, of_caches_is_none_small_and_larger) {
  const Pretrained model = load_plain(golden_dir("v3_mtp"));
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(int32_t(i * 7 % model.model->config().vocab_size));
  const auto through = [&](DType cache) {
    Divergence d;
    compare_document(*model.model, *model.model, ids, {.context = 20, .cache = cache}, d);
    return d.mean();
  };
  const double bf16 = through(DType::kBF16), fp8 = through(DType::kF8E4M3);
  EXPECT_LT(std::abs(through(DType::kF32)), 1e-9);
  EXPECT_GT(bf16, 0);
  EXPECT_GT(fp8, 10 * bf16);
  EXPECT_LT(fp8, 0.02);
}

TEST(Divergence, refuses_models_that_do_not_fit) {
  const Pretrained a = load_plain(golden_dir("v3_mtp"));
  ModelConfig config = a.model->config();
  config.vocab_size += 1;
  Transformer other(config);
  const std::vector<int32_t> ids{1, 2, 3};
  Divergence d;
  EXPECT_ERROR(compare_document(*a.model, other, ids, {}, d), kUsage, "vocabularies of");
  EXPECT_ERROR(compare_document(*a.model, *a.model, ids, {.context = 1 << 20}, d), kUsage,
               "a context of 1048576 tokens");
}

}  // namespace
}  // namespace hadal
