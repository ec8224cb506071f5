// Gradients with BF16 products against those with FP32 ones, over all kinds.
#include "tests/conformance/variants.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// A number is rounded to BF16 with a relative error of at most 2^-9, of about 0.11% on the average;
// a GEMM has two rounded operands: 0.16% of its result, independent from one GEMM to the next.
// About thirty lie between a weight of these models and its gradient, to the loss and back:
// 0.16% * sqrt(30) = 0.9%, made larger by attention that is far from uniform. Gains and biases are
// sums over tokens, where terms cancel. Rounding that is not to nearest would double all this.
constexpr double kWholeBound = 0.03;   // relative, L2, all tensors as one; measured: at most 2.2%
constexpr double kTensorBound = 0.05;  // each tensor; measured: at most 3.3%
// Smaller than rounding to BF16 makes it: the FP32 path was taken.
constexpr double kRounded = 0.001;

class Bf16 : public testing::TestWithParam<Variant> {};

std::vector<std::vector<float>> gradients(Transformer& model, Precision precision) {
  const std::vector<int32_t> tokens = some_ids(4 * 20, 12);
  const Batch batch =
      make_batch(View<const int32_t, 2>(tokens.data(), {4, 20}), 18, model.mtp_depth());
  TrainOptions options{.mtp_lambda = 0.5f, .sequence_alpha = 0.01f};
  options.precision = precision;
  model.params().zero_gradients();
  model.forward_backward(batch, options);
  std::vector<std::vector<float>> out;
  for (const Param& p : model.params().all()) {
    if (p.gradient == nullptr) {
      out.emplace_back();
    } else {
      out.emplace_back(p.gradient, p.gradient + p.size());
    }
  }
  return out;
}

struct Distance {
  double error = 0, norm = 0;
  void add(const std::vector<float>& got, const std::vector<float>& want) {
    for (size_t i = 0; i < want.size(); ++i) {
      error += std::pow(double(got[i]) - double(want[i]), 2);
      norm += std::pow(double(want[i]), 2);
    }
  }
  double relative() const { return std::sqrt(error / norm); }
};

TEST_P(Bf16, gradients_agree_with_fp32) {
  const auto model = make_model(GetParam(), choose_all_experts);
  const auto exact = gradients(*model, Precision::kFp32);
  for_each_family([&] {
    const auto rounded = gradients(*model, Precision::kBf16);
    Distance whole;
    for (size_t i = 0; i < exact.size(); ++i) {
      if (exact[i].empty()) continue;
      Distance tensor;
      tensor.add(rounded[i], exact[i]);
      whole.add(rounded[i], exact[i]);
      const std::string& name = model->params().all()[i].name;
      EXPECT_LT(tensor.relative(), kTensorBound) << name;
      EXPECT_GT(tensor.relative(), kRounded) << name;
    }
    EXPECT_LT(whole.relative(), kWholeBound);
  });
}

INSTANTIATE_TEST_SUITE_P(all, Bf16, testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace hadal
