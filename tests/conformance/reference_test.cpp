// The whole model against the double-precision reference of tests/reference: logits, every term of
// the loss, and gradients by central differences of the reference's loss.
#include "tests/reference/reference.h"

#include "tests/conformance/variants.h"
#include "tests/support/sanitizers.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// FP32 against double. The largest measured over all variants: 1.1e-6, 4e-8, 3.1e-6.
constexpr double kLogitBound = 5e-6;     // of the largest logit
constexpr double kLossBound = 3e-7;      // relative, each term
constexpr double kGradientBound = 2e-5;  // of the L2 norm of the tensor's gradient
// Decisions of the gates closer than this could fall otherwise in FP32, or within a step of the
// differences, and a choice that changes is a jump and no slope.
constexpr double kClosestChoice = 1e-4;

const TrainOptions kAllLosses{.mtp_lambda = 0.5f, .sequence_alpha = 0.2f, .batch_alpha = 0.1f};

class Reference : public testing::TestWithParam<Variant> {
 protected:
  std::unique_ptr<Transformer> model_ = make_model(GetParam());

  // The first of some batches that has no close decisions. The last module finds no target at the
  // last position.
  Batch batch() const {
    constexpr int64_t kGiven = 10;
    const reference::Model reference(*model_);
    for (uint64_t seed = 1; seed < 50; ++seed) {
      const std::vector<int32_t> tokens = some_ids(2 * kGiven, seed);
      const View<const int32_t, 2> rows(tokens.data(), {2, kGiven});
      Batch b = make_batch(rows, kGiven - model_->mtp_depth(), model_->mtp_depth());
      if (reference.losses(b, kAllLosses).closest_choice > kClosestChoice) return b;
    }
    throw Error(ErrorKind::kInternal, "every batch has a close decision");
  }
};

std::vector<double> flat(const reference::Rows& rows, int64_t count) {
  std::vector<double> out;
  for (int64_t t = 0; t < count; ++t) {
    out.insert(out.end(), rows[size_t(t)].begin(), rows[size_t(t)].end());
  }
  return out;
}

TEST_P(Reference, logits_agree_on_every_family) {
  const int64_t length = 24;
  const auto ids = some_ids(length, 11);
  std::vector<std::vector<int32_t>> mtp_ids;
  for (int64_t d = 1; d <= model_->mtp_depth(); ++d) {
    mtp_ids.emplace_back(ids.begin() + d, ids.end());
    mtp_ids.back().resize(ids.size());  // rows without a next token are not compared
  }
  const reference::Output want = reference::Model(*model_).forward(ids, mtp_ids);
  for_each_family([&] {
    Matrix main({length, 48});
    std::vector<Matrix> mtp;
    std::vector<Out2> mtp_views;
    for (int64_t d = 1; d <= model_->mtp_depth(); ++d) mtp.emplace_back(Matrix({length - d, 48}));
    for (Matrix& m : mtp) mtp_views.push_back(m);
    model_->logits(view(ids), Precision::kFp32, main, mtp_views);
    EXPECT_TRUE(close(main, flat(want.logits, length), kLogitBound));
    for (size_t d = 0; d < mtp.size(); ++d) {
      EXPECT_TRUE(close(mtp[d], flat(want.mtp_logits[d], mtp[d].dim(0)), kLogitBound))
          << "module " << d;
    }
  });
}

double mean(const CrossEntropy& sum) {
  return sum.loss_sum / double(sum.count);
}

TEST_P(Reference, losses_agree) {
  const Batch b = batch();
  for (const auto& [sequence_alpha, batch_alpha] : {std::pair{0.2f, 0.0f}, {0.0f, 0.1f}}) {
    TrainOptions options = kAllLosses;
    options.sequence_alpha = sequence_alpha, options.batch_alpha = batch_alpha;
    const reference::LossTerms want = reference::Model(*model_).losses(b, options);
    for (const Losses& got : {model_->evaluate(b, options), model_->forward_backward(b, options)}) {
      EXPECT_NEAR(mean(got.main), want.main, kLossBound * want.main);
      ASSERT_EQ(got.mtp.size(), want.mtp.size());
      for (size_t d = 0; d < want.mtp.size(); ++d) {
        EXPECT_NEAR(mean(got.mtp[d]), want.mtp[d], kLossBound * want.mtp[d]);
      }
      EXPECT_NEAR(got.balance, want.balance, kLossBound * want.balance);
    }
  }
}

// One tensor of the gradient against difference quotients of the reference's loss: along a random
// direction, which no wrong entry escapes, and for single entries, that of the largest gradient
// among them. Returns what is wrong.
std::string compare(const Param& p, reference::Model reference, const Batch& batch) {
  reference::Vector& values = reference.parameter(p.name);
  const reference::Vector start = values;
  const auto quotient = [&](const reference::Vector& direction, double h) {
    const auto loss = [&](double step) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = start[i] + step * direction[i];
      return reference.losses(batch, kAllLosses).total;
    };
    return (loss(h) - loss(-h)) / (2 * h);
  };
  Rng rng(77);
  reference::Vector direction(start.size());
  double slope = 0, norm = 0;
  size_t largest = 0;
  for (size_t i = 0; i < start.size(); ++i) {
    direction[i] = rng.normal();
    slope += direction[i] * double(p.gradient[i]);
    norm += double(p.gradient[i]) * double(p.gradient[i]);
    if (std::abs(p.gradient[i]) > std::abs(p.gradient[largest])) largest = i;
  }
  norm = std::sqrt(norm);
  std::string wrong;
  const auto check = [&](double want, double got, const std::string& what) {
    if (std::abs(got - want) <= kGradientBound * norm + 1e-8) return;
    wrong += str(p.name, ", ", what, ": gradient ", got, ", difference quotient ", want,
                 ", norm of the tensor's gradient ", norm, "\n");
  };
  if (norm == 0 && !p.expert) wrong += p.name + " has no gradient\n";
  check(quotient(direction, 1e-5 / std::sqrt(double(start.size()))), slope, "random direction");
  if (kSlowBuild) return wrong;
  const auto check_entry = [&](size_t i) {
    reference::Vector unit(start.size());
    unit[i] = 1;
    check(quotient(unit, 1e-5), double(p.gradient[i]), str("entry ", i));
  };
  check_entry(largest);
  if (!p.expert) check_entry(size_t(rng.below(p.size())));  // there are many experts
  return wrong;
}

TEST_P(Reference, gradients_agree) {
  const Batch b = batch();
  const reference::Model reference(*model_);
  model_->params().zero_gradients();
  model_->forward_backward(b, kAllLosses);
  std::vector<const Param*> trained;
  for (const Param& p : model_->params().all()) {
    if (p.gradient != nullptr) trained.push_back(&p);
  }
  std::vector<std::string> wrong(trained.size());
  parallel_tasks(int64_t(trained.size()),
                 [&](int64_t i) { wrong[size_t(i)] = compare(*trained[size_t(i)], reference, b); });
  for (const std::string& message : wrong) EXPECT_EQ(message, "");
}

INSTANTIATE_TEST_SUITE_P(all, Reference, testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace hadal
