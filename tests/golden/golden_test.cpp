// Every golden case (README.md here) against the whole model: logits, gradients, MTP logits, both
// serving paths, on every kernel family; and the set's teeth: one mistake at a time must show.
#include <algorithm>

#include "core/files.h"
#include "io/safetensors.h"
#include "model/pretrained.h"
#include "model/weights.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr double kLogitTolerance = 1e-4;     // of the largest logit
constexpr double kGradientTolerance = 1e-3;  // relative, L2, each tensor

fs::path golden_dir() {
  return source_dir() / "tests" / "golden";
}

// golden.safetensors: expected numbers, whole in memory.
class Golden {
 public:
  explicit Golden(const std::string& name) : file_(golden_dir() / name / "golden.safetensors") {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::vector<double> floats(const std::string& name) const {
    const TensorInfo& info = *file_.find(name);
    std::vector<float> raw(static_cast<size_t>(info.size()));
    file_.read(info, 0, std::as_writable_bytes(std::span(raw)));
    return {raw.begin(), raw.end()};
  }
  std::vector<int32_t> ids() const {
    const TensorInfo& info = *file_.find("ids");
    std::vector<int64_t> raw(static_cast<size_t>(info.size()));
    file_.read(info, 0, std::as_writable_bytes(std::span(raw)));
    return {raw.begin(), raw.end()};
  }

 private:
  SafetensorsFile file_;
};

// The cases whose golden file has this tensor.
std::vector<std::string> case_names(const std::string& tensor) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_dir())) {
    const std::string name = entry.path().filename();
    if (entry.is_directory() && Golden(name).has(tensor)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<Transformer> load_case(const std::string& name, ConfigWarnings& warnings) {
  LoadOptions options;
  options.training = true;
  return load_pretrained(golden_dir() / name, options, warnings).model;
}

Ids view(const std::vector<int32_t>& ids) {
  return {ids.data(), {static_cast<int64_t>(ids.size())}};
}

Matrix logits_of(Transformer& model, const std::vector<int32_t>& ids) {
  Matrix out({static_cast<int64_t>(ids.size()), model.config().vocab_size});
  model.logits(view(ids), Precision::kFp32, out);
  return out;
}

double largest(std::span<const double> values) {
  double most = 0;
  for (double v : values) most = std::max(most, std::abs(v));
  return most;
}

// Largest difference in units of the tolerance.
double distance(In2 got, std::span<const double> want) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(double(got.data()[i]) - want[i]));
  }
  return worst / (kLogitTolerance * largest(want));
}

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, logits_agree_on_every_family) {
  ConfigWarnings warnings;
  const auto model = load_case(GetParam(), warnings);
  const Golden golden(GetParam());
  const auto ids = golden.ids();
  const auto want = golden.floats("logits");
  for_each_family([&] { EXPECT_LT(distance(logits_of(*model, ids), want), 1); });
}

TEST_P(GoldenTest, gradients_agree) {
  ConfigWarnings warnings;
  const auto model = load_case(GetParam(), warnings);
  const Golden golden(GetParam());
  const auto ids = golden.ids();
  const auto length = static_cast<int64_t>(ids.size());
  const Batch batch = make_batch(View<const int32_t, 2>(ids.data(), {1, length}), length, 0);
  TrainOptions options;
  options.mtp = false;
  const Losses losses = model->forward_backward(batch, options);
  EXPECT_NEAR(losses.main.loss_sum / double(losses.main.count), golden.floats("loss")[0], 1e-4);
  int64_t compared = 0;
  for (const Param& p : model->params().all()) {
    if (!golden.has("grad." + p.name)) continue;
    const auto want = golden.floats("grad." + p.name);
    ASSERT_EQ(int64_t(want.size()), p.size()) << p.name;
    double error = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += (p.gradient[i] - want[i]) * (p.gradient[i] - want[i]);
      norm += want[i] * want[i];
    }
    // Experts that no token chose have no gradient at all.
    EXPECT_LE(std::sqrt(error), kGradientTolerance * std::sqrt(norm) + 1e-12) << p.name;
    ++compared;
  }
  EXPECT_GT(compared, 10);
}

class GoldenMtpTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenMtpTest, logits_agree) {
  const Golden golden(GetParam());
  ConfigWarnings warnings;
  const auto model = load_case(GetParam(), warnings);
  const auto ids = golden.ids();
  const auto length = static_cast<int64_t>(ids.size());
  Matrix main({length, model->config().vocab_size});
  std::vector<Matrix> mtp;
  std::vector<Out2> views;
  for (int64_t d = 0; d < model->mtp_depth(); ++d) {
    mtp.emplace_back(std::array<int64_t, 2>{length - 1 - d, model->config().vocab_size});
    views.push_back(mtp.back());
  }
  model->logits(view(ids), Precision::kFp32, main, views);
  EXPECT_LT(distance(mtp[0], golden.floats("mtp_logits")), 1);
  if (golden.has("mtp_logits.1")) {
    ASSERT_EQ(model->mtp_depth(), 2);
    EXPECT_LT(distance(mtp[1], golden.floats("mtp_logits.1")), 1);
  }
}

// Logits of ids through a cache, `piece` tokens at a time.
Matrix serve(Transformer& model, const std::vector<int32_t>& ids, Path path, int64_t piece) {
  const auto length = static_cast<int64_t>(ids.size());
  Arena scratch;
  KvCache cache(model.cache_specs(), DType::kF32);
  const auto sequence = cache.add_sequence();
  Matrix h({length, model.config().hidden_size}), out({length, model.config().vocab_size});
  for (int64_t first = 0; first < length; first += piece) {
    const int64_t rows = std::min(piece, length - first);
    cache.extend(sequence, rows);
    std::vector<int32_t> positions;
    for (int64_t i = 0; i < rows; ++i) positions.push_back(int32_t(first + i));
    const StepSpan span{0, rows, sequence, first};
    StepPass pass{path, cache, scratch, view(positions), {&span, 1}, Precision::kFp32};
    const Out2 part = h.view().rows(first, first + rows);
    model.step({ids.data() + first, {rows}}, pass, part);
    model.head(part, pass, out.view().rows(first, first + rows));
  }
  return out;
}

// The prompt in pieces, and token by token through the decode path with absorbed attention.
TEST_P(GoldenTest, serving_paths_agree) {
  ConfigWarnings warnings;
  const auto model = load_case(GetParam(), warnings);
  const Golden golden(GetParam());
  const auto ids = golden.ids();
  const auto want = golden.floats("logits");
  EXPECT_LT(distance(serve(*model, ids, Path::kPrompt, 7), want), 1) << "prompt";
  EXPECT_LT(distance(serve(*model, ids, Path::kGenerated, 1), want), 1) << "token by token";
}

// As it is served: codes from the file. Prompts have the bits of the widened model, so they agree
// with the golden logits in FP32 as that does; decoding rounds x to BF16 at most, which is less
// than what products in BF16 do.
TEST(GoldenFp8, weights_are_used_as_they_are_stored) {
  const Golden golden("v3_fp8");
  const auto ids = golden.ids();
  const auto want = golden.floats("logits");
  const auto length = static_cast<int64_t>(ids.size());
  ConfigWarnings warnings;
  const Pretrained served = load_pretrained(golden_dir() / "v3_fp8", {}, warnings);
  const auto widened = load_case("v3_fp8", warnings);
  Transformer& model = *served.model;
  const auto codes = [](const Param& p) { return p.dtype == DType::kF8E4M3; };
  ASSERT_TRUE(std::ranges::any_of(model.params().all(), codes));
  for_each_family([&] {
    const Matrix logits = logits_of(model, ids);
    EXPECT_LT(distance(logits, want), 1);
    EXPECT_TRUE(same_bits(logits, logits_of(*widened, ids)));
    Matrix bf16({length, model.config().vocab_size}), bf16_widened = clone(bf16);
    model.logits(view(ids), Precision::kBf16, bf16);
    widened->logits(view(ids), Precision::kBf16, bf16_widened);
    EXPECT_TRUE(same_bits(bf16, bf16_widened));
    EXPECT_LT(distance(serve(model, ids, Path::kPrompt, 7), want), 1);
    const double by_bf16 = distance(bf16, want);
    EXPECT_LT(distance(serve(model, ids, Path::kGenerated, 1), want), 1.5 * by_bf16);
  });
}

INSTANTIATE_TEST_SUITE_P(cases, GoldenTest, testing::ValuesIn(case_names("logits")),
                         [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(cases, GoldenMtpTest, testing::ValuesIn(case_names("mtp_logits")),
                         [](const auto& test) { return test.param; });

// ---- teeth

struct Tooth {
  std::string name, golden_case;
  std::function<void(ModelConfig&)> config;
  std::function<void(const std::string&, Out1)> param;  // name, values
};

void fill(Out1 values, float with) {
  std::fill_n(values.data(), values.dim(0), with);
}

std::vector<Tooth> teeth() {
  const auto none = [](ModelConfig&) {};
  const auto keep = [](const std::string&, Out1) {};
  const auto reset = [](std::string part, float with) {
    return [part, with](const std::string& name, Out1 values) {
      if (name.find(part) != std::string::npos) fill(values, with);
    };
  };
  return {
      {"yarn", "v3_yarn", [](ModelConfig& c) { c.rope_scaling = {}; }, keep},
      {"mscale", "v3_yarn_mscale_all_dim_only",
       [](ModelConfig& c) { c.rope_scaling.mscale_all_dim.reset(); }, keep},
      {"attention_factor", "v3_yarn_attention_factor",
       [](ModelConfig& c) { c.rope_scaling.attention_factor.reset(); }, keep},
      {"routing bias", "v3_groups", none, reset("e_score_correction_bias", 0)},
      {"group limit", "v3_groups", [](ModelConfig& c) { c.topk_group = c.n_group; }, keep},
      {"group limit, maximum", "v2_groups", [](ModelConfig& c) { c.topk_group = c.n_group; }, keep},
      {"normalisation", "v3_groups", [](ModelConfig& c) { c.norm_topk_prob = false; }, keep},
      {"scaling factor", "v3_plain", [](ModelConfig& c) { c.routed_scaling_factor = 1; }, keep},
      {"shared expert", "v3_plain", none, reset("shared_experts.down_proj", 0)},
      {"q norm", "olmo2_mha", none, reset("q_norm", 1)},
      {"k norm", "olmo2_gqa", none, reset("k_norm", 1)},
      {"kv_a_layernorm", "v3_plain", none, reset("kv_a_layernorm", 1)},
      {"q_a_layernorm", "v3_qlora", none, reset("q_a_layernorm", 1)},
      {"rope pairs", "v3_plain", [](ModelConfig& c) { c.rope_interleave = !c.rope_interleave; },
       keep},
      {"llama3 scaling", "llama_rope_llama3", [](ModelConfig& c) { c.rope_scaling = {}; }, keep},
      {"linear scaling", "llama_rope_linear", [](ModelConfig& c) { c.rope_scaling = {}; }, keep},
  };
}

TEST(golden_teeth, every_single_mistake_shows) {
  for (const Tooth& tooth : teeth()) {
    SCOPED_TRACE(tooth.name);
    ConfigWarnings warnings;
    const auto right = load_case(tooth.golden_case, warnings);
    ModelConfig config = right->config();
    tooth.config(config);
    Transformer wrong(config);
    wrong.params().allocate_training();
    for (Param& p : wrong.params().all()) {
      const Param* from = right->params().find(p.name);
      ASSERT_NE(from, nullptr) << p.name;
      std::copy_n(from->vec().data(), p.size(), p.vec_mut().data());
      tooth.param(p.name, p.vec_mut());
    }
    const Golden golden(tooth.golden_case);
    EXPECT_GT(distance(logits_of(wrong, golden.ids()), golden.floats("logits")), 100);
  }
}

}  // namespace
}  // namespace hadal
